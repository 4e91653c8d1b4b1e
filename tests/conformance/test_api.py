"""The conformance suite's own behaviour: what passes, fails and is unsupported."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent.backends import Adapter
from xp_xent.conformance import Report, Subject, cases, run

BINARY = "binary_cross_entropy_with_logits"
AGREEMENT = [case for case in cases() if case.topic == "agreement" and case.dtype == "float32"]
CHECKS = [case for case in cases() if case.topic == "properties"]


def gradient(name: str) -> Callable[..., Any]:
    both = xp_xent.value_and_grad(getattr(xp_xent, name))
    return lambda *arrays, **options: both(*arrays, **options)[1]


def subject(backend: str = "numpy", **changed: Any) -> Subject:
    functions = {"cross_entropy": xp_xent.cross_entropy, BINARY: getattr(xp_xent, BINARY)}
    gradients = {name: gradient(name) for name in functions}
    return Subject("mine", backend, functions | changed, gradients)


def kinds(report: Report) -> set[str]:
    return {result.kind for result in report.failed}


def test_this_library_passes_everything_on_numpy() -> None:
    mine = subject()
    asked = [case for case in cases() if case.function in mine.functions]
    report = run(mine, cases=asked)
    assert [(result.case_id, result.reason) for result in report.failed] == []
    assert not report.unsupported
    assert report.ok
    assert len(report.passed) == len(asked) > 3000


def test_checks_hold_on_every_library(backend: Adapter) -> None:
    dtypes = ("float32", "bfloat16")
    report = run(subject(backend.name), cases=[case for case in CHECKS if case.dtype in dtypes])
    assert [(result.case_id, result.reason) for result in report.failed] == []
    assert report.passed


def test_ids_are_unique() -> None:
    assert len({case.id for case in cases()}) == len(cases())


def test_not_implemented_is_unsupported_and_never_passed() -> None:
    def nothing(*arrays: Any, **options: Any) -> Any:
        raise NotImplementedError("not yet")

    report = run(Subject("mine", "numpy", {"cross_entropy": nothing}), cases=AGREEMENT)
    assert len(report.unsupported) == len(AGREEMENT)
    assert not report.passed
    assert not report.failed
    assert {result.reason for result in report.unsupported} == {"not yet"}


def test_an_option_that_is_not_taken_is_unsupported() -> None:
    def plain(logits: Any, targets: Any, *, axis: int = -1, reduction: str = "mean") -> Any:
        return xp_xent.cross_entropy(logits, targets, axis=axis, reduction=reduction)

    report = run(Subject("mine", "numpy", {"cross_entropy": plain}))
    assert not report.failed
    assert report.passed
    assert any("softcap" in result.reason for result in report.unsupported)
    # Nor is one that a label implies.
    reasons = {result.case_id: result.reason for result in report.unsupported}
    assert "ignore_index" in reasons["ignored-float32"]
    assert "ignore_index" in reasons["check-droppable-softmax-float32"]


def test_a_missing_gradient_leaves_the_values_to_be_judged() -> None:
    report = run(Subject("mine", "numpy", {"cross_entropy": xp_xent.cross_entropy}))
    assert report.passed
    assert not report.failed
    names = {result.case_id for result in report.unsupported}
    assert "check-cotangent-softmax-float32" in names


def writes(logits: Any, targets: Any, **options: Any) -> Any:
    loss = xp_xent.cross_entropy(logits, targets, **options)
    logits -= logits.max()
    return loss


def wrong_shape(logits: Any, targets: Any, **options: Any) -> Any:
    return np.atleast_1d(xp_xent.cross_entropy(logits, targets, **options))


def wrong_dtype(logits: Any, targets: Any, **options: Any) -> Any:
    return np.asarray(xp_xent.cross_entropy(logits, targets, **options), dtype=np.float64)


def python_number(logits: Any, targets: Any, **options: Any) -> Any:
    return xp_xent.cross_entropy(logits, targets, **options).tolist()


def crashes(logits: Any, targets: Any, **options: Any) -> Any:
    raise ZeroDivisionError("oh")


def slightly_off(logits: Any, targets: Any, **options: Any) -> Any:
    return xp_xent.cross_entropy(logits, targets, **options) * np.float32(1 + 4e-6)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (writes, "mutation"), (wrong_shape, "shape"), (wrong_dtype, "dtype"),
        (python_number, "namespace"), (crashes, "error"), (slightly_off, "value"),
    ],
)  # fmt: skip
def test_a_fault_is_named(function: Callable[..., Any], kind: str) -> None:
    report = run(subject(cross_entropy=function), cases=AGREEMENT)
    assert not report.ok
    assert kind in kinds(report)
    assert all(result.reason for result in report.failed)


def test_bad_labels_must_raise_where_they_can_be_seen() -> None:
    def lenient(logits: Any, targets: Any, **options: Any) -> Any:
        try:
            return xp_xent.cross_entropy(logits, targets, **options)
        except ValueError:
            return np.zeros((), np.float32)

    bad = [case for case in cases() if case.topic == "bad_labels"]
    report = run(Subject("mine", "numpy", {"cross_entropy": lenient}), cases=bad)
    assert "no error" in kinds(report)


def test_progress_is_told_of_each_result() -> None:
    seen: list[str] = []
    run(subject(), cases=AGREEMENT, progress=lambda result: seen.append(result.case_id))
    assert seen == [case.id for case in AGREEMENT]


def test_it_runs_without_the_command_s_packages() -> None:
    script = """
        import sys
        for name in ("jinja2", "rich", "typer", "pytest", "flint"):
            sys.modules[name] = None
        from xp_xent.conformance import Subject, cases, run
        import xp_xent
        mine = Subject("mine", "numpy", {"cross_entropy": xp_xent.cross_entropy})
        assert run(mine, cases=cases()[:50]).ok
        from xp_xent.conformance import __main__
        try:
            __main__.main()
        except SystemExit as error:
            assert "xp_xent[cli]" in str(error), error
        else:
            raise AssertionError("it ran")
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# What is no answer


def nothing(*arrays: Any, **options: Any) -> Any:
    return None


def a_list(logits: Any, targets: Any, **options: Any) -> Any:
    return [0.5]


def a_complex_number(logits: Any, targets: Any, **options: Any) -> Any:
    return xp_xent.cross_entropy(logits, targets, **options) + np.complex64(0)


def objects(logits: Any, targets: Any, **options: Any) -> Any:
    return np.asarray(xp_xent.cross_entropy(logits, targets, **options), dtype=object)


def another_library(logits: Any, targets: Any, **options: Any) -> Any:
    strict = pytest.importorskip("array_api_strict", reason="the other library is not installed")
    return strict.asarray(np.asarray(xp_xent.cross_entropy(logits, targets, **options)))


def leaves(*arrays: Any, **options: Any) -> Any:
    sys.exit("done")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (nothing, "namespace"), (a_list, "namespace"), (another_library, "namespace"),
        (a_complex_number, "dtype"), (objects, "dtype"), (leaves, "error"),
    ],
)  # fmt: skip
def test_garbage_fails_and_ends_nothing(function: Callable[..., Any], kind: str) -> None:
    mine = Subject("mine", "numpy", {"cross_entropy": function}, {"cross_entropy": function})
    asked = [case for case in cases() if case.function in mine.functions]
    asked = [case for case in asked if case.topic != "bad_labels"]
    report = run(mine, cases=asked[::40])
    assert kinds(report) == {kind}
    assert not report.passed


def test_an_interrupt_is_the_user_s() -> None:
    def interrupted(*arrays: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(subject(cross_entropy=interrupted), cases=AGREEMENT)


def test_what_is_compiled_together_is_asked_together() -> None:
    forgotten: list[int] = []
    asked: list[str] = []
    mine = dataclasses.replace(subject(), forget=lambda: forgotten.append(len(asked)))
    chosen = [case for case in cases() if case.topic in ("smoothing", "agreement")]
    report = run(mine, cases=chosen, progress=lambda result: asked.append(result.case_id))
    assert [result.case_id for result in report.results] == [case.id for case in chosen]
    assert sorted(asked) == sorted(case.id for case in chosen)
    assert 10 < len(forgotten) < len(chosen)
    assert forgotten[-1] == len(chosen)
