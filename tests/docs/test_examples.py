"""Each example runs as a user runs it, warnings as errors, and reaches what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from xp_xent import backends

pytest.importorskip("sklearn", reason="the examples use its data sets")

EXAMPLES = Path(__file__).parents[2] / "examples"
INSTALLED = backends.installed()


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *arguments],
        # One thread each: spinning BLAS threads starve each other when tests run side by side.
        env={
            **os.environ,
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": "1",
            "JAX_ENABLE_COMPILATION_CACHE": "0",
            **variables,
        },
        encoding="utf-8",
        capture_output=True,
        timeout=300,
        check=False,
    )


def table(finished: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Read the printed table: first cell of a row → column → cell."""
    lines = finished.stdout.splitlines()
    ruler = next(i for i, line in enumerate(lines) if line.startswith("---"))
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[ruler - 1 :]]
    header, body = rows[0], rows[2:]
    return {row[0]: dict(zip(header, row, strict=True)) for row in body if len(row) == len(header)}


def outcome(script: str, *arguments: str) -> dict[str, dict[str, str]]:
    finished = run(script, *arguments)
    assert finished.returncode == 0, finished.stderr
    return table(finished)


@pytest.mark.parametrize("name", ["numpy", pytest.param(None, marks=pytest.mark.full)])
def test_digits_agree_with_scikit_learn_on_every_backend(name: str | None) -> None:
    finished = run("digits.py", *(("--backend", name) if name else ()))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = table(finished)
    assert {*([name] if name else INSTALLED), "scikit-learn"} <= set(rows)
    assert len({f"{float(row['loss']):.6g}" for row in rows.values()}) == 1
    assert len({row["accuracy"] for row in rows.values()}) == 1
    assert "agree with scikit-learn" in finished.stdout


def test_digits_say_so_when_they_do_not_agree() -> None:
    finished = run("digits.py", "--backend", "numpy", "--steps", "5")
    assert finished.returncode == 1
    assert "DO NOT agree" in finished.stdout


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_with_and_without_a_terminal(terminal: bool) -> None:
    """Rich believes FORCE_COLOR rather than the pipe."""
    finished = run("multilabel.py", "--steps", "5", FORCE_COLOR="1" if terminal else "")
    assert finished.returncode == 0, finished.stderr
    assert ("step 5/5" in finished.stderr) == (not terminal)
    assert ("\x1b[" in finished.stderr) == terminal


def test_pos_weight_finds_more_of_the_rare_class() -> None:
    rows = outcome("imbalanced.py")
    plain, weighted = rows["plain"], rows["pos_weight"]
    assert float(weighted["recall"]) > float(plain["recall"])
    assert float(weighted["precision"]) < float(plain["precision"])


def test_multilabel_beats_a_constant_answer() -> None:
    for row in outcome("multilabel.py").values():
        assert float(row["accuracy"]) > 0.9 > float(row["accuracy of one constant answer"])


def test_segmentation_uses_the_neighbourhood() -> None:
    rows = outcome("segmentation.py", "--steps", "100")
    overlaps = [float(row["mean IoU"]) for row in rows.values()]
    assert overlaps[:3] == sorted(overlaps[:3])
    assert overlaps[2] > 0.8


def test_language_model_beats_counting() -> None:
    rows = outcome("language_model.py", "--steps", "100")
    neural, bigram, unigram = (
        float(rows[name]["perplexity"]) for name in ("neural", "bigram", "unigram")
    )
    assert neural < bigram < unigram < 256


@pytest.mark.skipif(sys.platform == "win32", reason="gloo's ranks meet in other ways there")
def test_a_vocabulary_over_two_ranks_trains_as_one_machine() -> None:
    pytest.importorskip("torch.distributed.tensor")
    script, launch = EXAMPLES / "vocabulary_parallel_torch.py", ("--nproc-per-node", "2")
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "torch.distributed.run", "--standalone", *launch,
         script, "--steps", "10"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        encoding="utf-8", capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    split, alone = table(finished).values()
    for column in ("loss", "held out"):
        assert float(split[column]) == pytest.approx(float(alone[column]), rel=1e-5)


def test_newton_cg_finds_the_optimum_of_l_bfgs() -> None:
    rows = outcome("newton_cg.py")
    newton, other = rows["Newton-CG"], rows["L-BFGS-B"]
    assert float(newton["loss"]) == pytest.approx(float(other["loss"]), rel=5e-9)
    assert int(newton["steps"]) < int(other["steps"]) / 3


def test_gauss_newton_converges_quadratically() -> None:
    pytest.importorskip("torch")
    sizes = [float(row["max |g|"]) for row in outcome("gauss_newton.py").values()]
    assert sizes[-1] < 1e-13
    for before, after in pairwise(sizes[-5:]):
        assert after < 1e5 * before**2 + 1e-15


@pytest.mark.skipif(
    not all(map(find_spec, ("catboost", "lightgbm", "xgboost"))), reason="needs boosting libraries"
)
def test_boosting_reproduces_the_built_in_objectives() -> None:
    finished = run("boosting.py")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = table(finished)
    assert len(rows) == 6
    for row in rows.values():
        assert float(row["custom loss"]) == pytest.approx(float(row["built-in loss"]), rel=5e-6)


def test_onnx_models_agree_and_keep_confident_rows() -> None:
    pytest.importorskip("ndonnx")
    pytest.importorskip("onnxruntime")
    finished = run("onnx_export.py")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "models agree with NumPy" in finished.stdout
    row = re.split(r"\s{2,}", next(x for x in finished.stdout.splitlines() if x.startswith("40 ")))
    *_, numpy, ours, operator = map(float, row)
    assert max(numpy, ours) < 1e-6 < operator


# In the first tier, each script on one library, and each library under one script at least.
SCRIPTS = ("imbalanced.py", "segmentation.py", "language_model.py", "multilabel.py")


@pytest.mark.parametrize(
    ("script", "name"),
    [
        pytest.param(
            script,
            name,
            marks=[pytest.mark.full] * (i != j % len(SCRIPTS) or name == "numpy"),
        )
        for i, script in enumerate(SCRIPTS)
        for j, name in enumerate(INSTALLED)
    ],
)
def test_every_example_runs_on_every_backend(script: str, name: str) -> None:
    assert outcome(script, "--backend", name, "--steps", "2")
