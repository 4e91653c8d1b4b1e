"""The subjects that are ready made: they are asked as users ask them, and judged as they are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from xp_xent.conformance import Subject, cases, run
from xp_xent.conformance._peers import PEERS
from xp_xent.conformance._result import BY_DESIGN, FAILED, PASSED, UNSUPPORTED
from xp_xent.conformance._run import rules
from xp_xent.conformance._subjects import subjects

SUBJECTS, ABSENT = subjects()
OURS = [subject for subject in SUBJECTS if subject.name.startswith("xp_xent")]
PEER_NAMES = {subject.name for subject in SUBJECTS} - {subject.name for subject in OURS}
ONNX = "ONNX SoftmaxCrossEntropyLoss in onnxruntime"
BY_ID = {case.id: case for case in cases()}


def few() -> list[Any]:
    """The first float32 test of each function and topic, which a compiler can afford too."""
    chosen: dict[Any, Any] = {}
    for case in cases():
        if case.dtype == "float32" and case.topic != "properties":
            chosen.setdefault((case.function, case.topic), case)
    # A compiler that computes a capped logit twice may round it differently.
    return [*chosen.values(), BY_ID["softcap-confident-float32"]]


def asked(subject: Subject, tier: int) -> list[Any]:
    """Of compilers and ranks the first tier asks every third, of ONNX's models every sixth.

    The second asks all, and of Inductor every sixth.
    """
    # First the one that compilers may round differently.
    every = few()[::-1]
    if "inductor" in subject.name:
        return every[::6]
    if "ONNX" in subject.name:
        return every[:: 6 if tier == 1 else 1]
    slow = subject.traced or subject.backend == "jax" or "ranks" in subject.name
    return every[::3] if tier == 1 and slow else every


def ways() -> Iterator[Any]:
    """Each way in each tier; Inductor, for which g++ reads PyTorch's headers, in the second."""
    for subject in OURS:
        for tier in (2,) if "inductor" in subject.name else (1, 2):
            later = [pytest.mark.full] if tier == 2 else []
            yield pytest.param(subject, tier, id=f"{subject.name}-{tier}", marks=later)


@pytest.mark.parametrize(("subject", "tier"), list(ways()))
def test_this_library_passes_by_every_way(subject: Subject, tier: int) -> None:
    if "inductor" in subject.name and (sys.platform == "win32" or not shutil.which("g++")):
        pytest.skip("inductor needs a C++ compiler")
    report = run(subject, cases=asked(subject, tier))
    assert [(result.case_id, result.reason) for result in report.failed] == []
    assert report.passed
    assert not report.unsupported


def outcome(subject: Subject, name: str) -> str:
    (result,) = run(subject, cases=[BY_ID[name]]).results
    return result.outcome


def peer(name: str) -> Subject:
    found = {subject.name: subject for subject in SUBJECTS}
    if name not in found:
        pytest.skip(f"{name}: {ABSENT.get(name, 'not installed')}")
    return found[name]


@pytest.mark.parametrize(
    "name", ["PyTorch F.*", "optax", "SciPy + gather", "scikit-learn log_loss", ONNX]
)  # fmt: skip
def test_peer_is_right_on_ordinary_rows_and_loses_confident_ones(name: str) -> None:
    subject = peer(name)
    assert outcome(subject, "mean-float32") == PASSED
    lost = BY_DESIGN if name.startswith("scikit-learn") else FAILED  # it takes probabilities
    assert outcome(subject, "confident-20-float32") == lost
    assert outcome(subject, "softcap-float32") == UNSUPPORTED


@pytest.mark.parametrize("name", ["PyTorch F.*", "optax", "SciPy + gather"])
def test_another_rule_is_neither_passed_nor_failed(name: str) -> None:
    subject = peer(name)
    (result,) = run(subject, cases=[BY_ID["tie-float16"]]).results
    assert result.outcome == BY_DESIGN
    assert result.reason.startswith("The loss has the logits' dtype (value: got float16")


def test_a_rule_does_not_cover_another_subject() -> None:
    subject = peer("PyTorch F.*")
    mine = Subject("mine", subject.backend, subject.functions, subject.gradients)
    assert outcome(mine, "tie-float16") == FAILED


def test_rules_name_subjects_and_tests_that_exist() -> None:
    known = {*PEERS, *PEER_NAMES}
    bases = {case.id.removesuffix(f"-{case.dtype}") for case in cases()}
    for rule in rules():
        assert rule["kinds"]
        assert set(rule["subjects"]) <= known
        assert set(rule.get("cases", ())) <= bases | set(BY_ID)


def test_absent_peers_are_named_with_a_reason() -> None:
    kinds: dict[str, Any] = dict.fromkeys(PEERS, None)
    for name, reason in ABSENT.items():
        assert name in kinds
        assert reason
