"""What one worker and two take: that the commands of docs/performance.md run."""

from __future__ import annotations

import pytest

from xp_xent.benchmarks import workers


@pytest.mark.parametrize("engine", workers.ENGINES)
def test_a_line(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Two workers, each of which holds at least its half of logits and gradient."""
    for library in ("torch", "dask", "distributed", "jax"):
        pytest.importorskip(library)
    assert workers.line(engine, 2, 4096, 512) >= (0.0, 4096 * 512 * 4)
    assert not capfd.readouterr().out
