"""Losses that compute on several ranks: how they are asked, and who is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import _on_ranks as asked
import torch

from xp_xent.conformance import Subject, cases, on_ranks, run
from xp_xent.conformance._ranks import Pool
from xp_xent.conformance._result import FAILED, PASSED, UNSUPPORTED, Result
from xp_xent.conformance._subjects import subjects

FOUND = {subject.name: subject for subject in subjects()[0]}
OURS = [f"xp_xent on DTensor, Shard({axis}), 2 ranks" for axis in (-1, 0)]
LOSS_PARALLEL = "PyTorch loss_parallel on 2 ranks"
BY_ROWS = "PyTorch F.cross_entropy on DTensor, Shard(0), 2 ranks"
MEGATRON = "Megatron-style vocabulary-parallel cross-entropy on 2 ranks"
BY_ID = {case.id: case for case in cases()}
ONE = torch.ones(1)


@pytest.fixture(autouse=True)
def _gloo() -> None:
    if MEGATRON not in FOUND:
        pytest.skip(subjects()[1][MEGATRON])


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two ranks that are waited for no longer than a second after the other."""
    found = Pool(2, grace=1.0)
    yield found
    found.close()


def evaluate(pool: Pool, function: Any, **options: Any) -> Any:
    return pool.evaluate(function, (ONE,), options)


# How they are asked


def test_ranks_compute_together(pool: Pool) -> None:
    assert evaluate(pool, asked.added).tolist() == [3.0]
    assert evaluate(pool, asked.added, times=2).tolist() == [6.0]


def test_an_error_is_that_of_the_first_rank(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"^rank 0 refuses$"):
        evaluate(pool, asked.refused)


def test_ranks_that_wait_for_another_hang_and_are_started_anew(pool: Pool) -> None:
    said = "hangs: no answer of rank 0; rank 1 raised ValueError: rank 1 refuses"
    with pytest.raises(TimeoutError, match=said):
        evaluate(pool, asked.refused_by_one)
    assert evaluate(pool, asked.added).tolist() == [3.0]


def test_ranks_that_never_answer_hang() -> None:
    pool = Pool(2, patience=1.0)
    with pytest.raises(TimeoutError, match=r"hangs: no answer of rank 0, 1$"):
        evaluate(pool, asked.asleep)


def test_a_rank_that_ends_is_started_anew(pool: Pool) -> None:
    with pytest.raises(ChildProcessError, match="rank 1 ended with 3"):
        evaluate(pool, asked.ended)
    assert evaluate(pool, asked.added).tolist() == [3.0]


def test_answers_that_differ_are_none(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match=r"rank 1 answered tensor\(\[2.\]\), and rank 0 tens"):
        evaluate(pool, asked.answered_apart)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint64, torch.bool])
def test_arrays_of_every_dtype_get_there_and_back(dtype: Any, pool: Pool) -> None:
    x = torch.arange(2).to(dtype)
    got = pool.evaluate(torch.clone, (x,), {})
    assert got.dtype == dtype
    assert torch.equal(got, x)


def test_what_hangs_is_a_failure_and_not_asked_again() -> None:
    loss = on_ranks(asked.refused_by_one)
    mine = Subject("mine", "torch", {"logsumexp": loss}, {"logsumexp": loss})
    case = next(case for case in cases() if case.function == "logsumexp" and not case.options)
    (result,) = run(mine, cases=[case]).results
    assert result.outcome == FAILED
    assert result.reason.count("raised TimeoutError: hangs: ") == 1


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="a process is asked for by a signal")
def test_ranks_end_with_their_parent(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time, torch, _on_ranks\n"
        "from xp_xent.conformance import on_ranks\n"
        "if __name__ == '__main__':\n"
        "    process = on_ranks(_on_ranks.process)\n"
        "    print(int(process(torch.ones(1, dtype=torch.int64))), flush=True)\n"
        "    time.sleep(600)\n"
    )
    path = os.pathsep.join([str(Path(asked.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        rank = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(600):
        try:
            os.kill(rank, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {rank} is still there")


# Who is right


def judged(name: str, case_id: str) -> Result:
    (result,) = run(FOUND[name], cases=[BY_ID[case_id]]).results
    return result


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("topic", ["ignored_rows", "gradients", "maps"])
def test_this_library_passes(name: str, topic: str) -> None:
    chosen = [case for case in cases() if case.topic == topic and case.dtype == "float32"]
    report = run(FOUND[name], cases=chosen[::4])
    assert [(result.case_id, result.reason) for result in report.failed] == []
    assert [(result.case_id, result.reason) for result in report.unsupported] == []


@pytest.mark.full
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("topic", sorted({case.topic for case in cases()}))
def test_this_library_passes_everything(name: str, topic: str) -> None:
    report = run(FOUND[name], cases=[case for case in cases() if case.topic == topic])
    assert [(result.case_id, result.reason) for result in report.failed] == []
    assert [(result.case_id, result.reason) for result in report.unsupported] == []


@pytest.mark.parametrize("name", [LOSS_PARALLEL, BY_ROWS, MEGATRON])
def test_peer_is_right_on_ordinary_rows_and_loses_confident_ones(name: str) -> None:
    assert judged(name, "sum-float32").outcome == PASSED
    assert judged(name, "confident-sum-float32").kinds == ("value", "gradient")
    assert judged(name, "softcap-float32").outcome == UNSUPPORTED


@pytest.mark.parametrize("case", ["ignored", "factor-huge-weight-mean"])
def test_mean_of_the_ranks_means_is_not_the_mean(case: str) -> None:
    """Its gradient is that of the mean of all rows."""
    assert judged(BY_ROWS, f"{case}-float32").kinds == ("value",)
    assert judged(LOSS_PARALLEL, f"{case}-float32").outcome == PASSED


def test_mean_that_would_be_wrong_for_sure_is_unsupported() -> None:
    result = judged(BY_ROWS, "confident-20-float32")  # a single row
    assert result.outcome == UNSUPPORTED
    assert "cannot be evenly sharded" in result.reason


def test_gradient_of_images_under_loss_parallel_is_that_of_other_pixels() -> None:
    assert judged(LOSS_PARALLEL, "layout-3d-axis-1-float32").outcome == PASSED
    assert judged(LOSS_PARALLEL, "layout-4d-axis-1-float32").kinds == ("gradient",)


def test_weights_beside_ignored_labels_end_loss_parallel() -> None:
    result = judged(LOSS_PARALLEL, "ignored-and-weight-sum-float32")
    assert result.kinds == ("error",)
    assert result.reason.startswith("gradient: raised RuntimeError: index -100 is out of bounds")


@pytest.mark.parametrize("name", [LOSS_PARALLEL, MEGATRON])
def test_labels_out_of_range_of_split_classes_are_not_refused(name: str) -> None:
    assert judged(name, "bad-label-3-row-0-float32").kinds == ("no error", "no error")


def test_label_that_one_rank_refuses_makes_the_other_wait() -> None:
    result = judged(BY_ROWS, "bad-label-3-row-0-float32")
    assert result.outcome == FAILED
    assert "hangs: no answer of rank 1; rank 0 raised" in result.reason


@pytest.mark.parametrize(("size", "classes"), [(2, 4), (2, 5), (3, 4)])
def test_megatron_style_shards_of_any_size_are_padded_to_equal_ones(
    size: int, classes: int
) -> None:
    logits, labels = torch.linspace(-2, 2, 3 * classes).reshape(3, -1), torch.arange(3)
    loss = on_ranks(FOUND[MEGATRON].functions["cross_entropy"].__wrapped__, size)
    want = torch.nn.functional.cross_entropy(logits, labels)
    assert loss(logits, labels).item() == pytest.approx(want.item(), rel=1e-6)
