"""Losses, maps and closed forms as ONNX models, which onnxruntime runs as NumPy computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES
from _registry import Entry, entries, fullest
from _tools import assert_agree

import xp_xent
from xp_xent import backends
from xp_xent.conformance._onnx import modelled

pytest.importorskip("ndonnx")
pytest.importorskip("onnxruntime")


def closed_forms(case: Entry) -> dict[str, Callable[..., Any]]:
    """Return each closed form of a loss as a function of the call's arrays, and the map itself."""
    loss = case.function
    if case.loss in NOT_LOSSES:
        return {"value": loss}
    vector = np.linspace(-1.0, 2.0, case.arrays[0].size).reshape(case.arrays[0].shape)
    both, curved = xp_xent.value_and_grad, xp_xent.value_grad_and_hessian_diagonal
    found = {
        "value": loss,
        "hessian_diagonal": xp_xent.hessian_diagonal(loss),
        "hvp": lambda z, *rest, **options: xp_xent.hvp(loss)(
            z, *rest, backends.backend_of(z).asarray(vector), **options
        ),
        "curvature": lambda *arrays, **options: curved(loss)(*arrays, **options)[2],
    }
    if case.bounded:
        found["upper bound"] = lambda *arrays, **options: curved(loss, "upper_bound")(
            *arrays, **options
        )[2]
    for wrt in case.closed:
        found[f"gradient by {wrt}"] = lambda *arrays, wrt=wrt, **options: both(loss, wrt)(
            *arrays, **options
        )[1]
    return found


# Where the first tier asks for each closed form; it asks for the value of each function, with all
# its options that go together.
EARLY = {
    "gradient by 0": "cross_entropy-labels",
    "gradient by 1": "binary_cross_entropy_with_logits-probabilities",
    "gradient by bias": "linear_cross_entropy-labels",
    "hvp": "softmax_focal_loss-labels",
    "hessian_diagonal": "sigmoid_focal_loss-0_or_1",
    "curvature": "kl_divergence-probabilities",
    "upper bound": "cross_entropy-probabilities",
}
FIRST = {form.function: form.name for form in reversed(FORMS)}


def asked() -> Iterator[Any]:
    """Every closed form of all options together; with each option alone, the value and another."""
    turn = count()
    for form in FORMS:
        for case in (fullest(form), *(x for x in entries(form) if x.option != "all")):
            found = closed_forms(case)
            if case.option != "all":
                others = [what for what in found if what != "value"] or ["value"]
                found = {what: found[what] for what in ("value", others[next(turn) % len(others)])}
            for what, call in found.items():
                early = (FIRST[form.function] if what == "value" else EARLY.get(what)) == form.name
                marks = [] if early and case.option == "all" else [pytest.mark.full]
                yield pytest.param(case, what, call, id=f"{case.name}-{what}", marks=marks)


@pytest.mark.parametrize(("case", "what", "call"), list(asked()))
def test_models(case: Entry, what: str, call: Callable[..., Any]) -> None:
    """The model's answer is NumPy's, as far as exponentials are, in shape and dtype exactly."""
    options = dict(case.options)
    if what.startswith("gradient") and case.cotangent is not None:
        options["cotangent"] = case.cotangent
    got, want = modelled(case.loss, call)(*case.arrays, **options), call(*case.arrays, **options)
    want = np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert_agree(got, want, np.abs(want).max())
