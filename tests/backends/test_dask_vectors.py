"""Certified vectors on Dask arrays cut along rows, classes and both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from xp_xent import backends, conformance
from xp_xent.conformance import Subject
from xp_xent.conformance._subjects import EVERY, LOSSES, closed_form

dask = pytest.importorskip("dask")

DASK = backends.get("dask")


def in_blocks(function: Callable[..., Any], axes: str) -> Callable[..., Any]:
    """Cut the first argument of a function along its class axis, the others, or both."""

    def call(x: Any, *rest: Any, **options: Any) -> Any:
        axis = options.get("axis", -1)
        classes = {axis % x.ndim} if isinstance(axis, int) and x.ndim else set(range(x.ndim))
        wanted = [
            (2 if at in classes else 1) if axes in ("both", "classes" if at in classes else "rows")
            else -1
            for at in range(x.ndim)
        ]  # fmt: skip
        return function(x.rechunk(tuple(wanted)) if x.size else x, *rest, **options)

    return call


def vectors() -> Iterator[Any]:
    """Each vector in one cut, in turn; in the first tier a fortieth of them in each."""
    for at, axes in enumerate(("rows", "classes", "both")):
        values = {name: in_blocks(f, axes) for name, f in EVERY.items()}
        gradients = {name: in_blocks(closed_form(name), axes) for name in LOSSES}
        subject = Subject(f"xp_xent on dask, {axes}", "dask", values, gradients)
        for topic in conformance.names():
            cases = [x for x in conformance.load(topic) if x.dtype in DASK.float_dtypes()]
            yield pytest.param(subject, cases[at * 5 :: 40], id=f"{axes}-{topic}")
            marks = pytest.mark.full
            yield pytest.param(subject, cases[at::3], id=f"{axes}-{topic}-all", marks=marks)


@pytest.mark.parametrize(("subject", "cases"), list(vectors()))
def test_vectors(subject: Subject, cases: Any) -> None:
    with dask.config.set(scheduler="sync"):
        report = conformance.run(subject, cases=cases)
    assert [(x.case_id, x.reason) for x in report.failed] == []
    assert [(x.case_id, x.reason) for x in report.unsupported] == []
