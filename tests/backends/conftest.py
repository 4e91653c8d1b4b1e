"""What tests of several backends start with."""

from __future__ import annotations

import pytest

from xp_xent import backends


@pytest.fixture
def no_jax_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without programs of JAX that are kept."""
    monkeypatch.setattr(backends.get("jax").plans, "_kept", {})
