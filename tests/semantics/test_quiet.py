"""No loss, gradient or curvature warns: infinities and NaN are stated results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _forms import CLASSES, ELEMENTWISE, FORMS, NOT_LOSSES, Form
from _registry import Entry, entry

import xp_xent
from xp_xent.backends import get, installed

# They compute with NumPy, whose operations warn.
NUMPY = [name for name in ("numpy", "array_api_strict", "torch") if name in installed()]
FILLS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "huge": 6e4, "tiny": 1e-40}
PROBABILITIES = {"nan": np.nan, "never": 0.0, "always": 1.0, "tiny": 1e-40}
WEIGHTS = {"zero": 0.0, "huge": 1e38}


def calls(form: Form) -> dict[str, Entry]:
    """All options at once, of rows that make trouble."""
    option = "plain" if form.function in NOT_LOSSES else "all"
    found = {}
    of_probabilities = form.function == "binary_cross_entropy"  # which refuses any other
    for name, fill in (PROBABILITIES if of_probabilities else FILLS).items():
        case = found[f"logits {name}"] = entry(form, option)
        case.arrays = (np.full_like(case.arrays[0], fill), *case.arrays[1:])
    for name, factor in WEIGHTS.items():
        case = found[f"weights {name}"] = entry(form, option)
        in_unit = form.function == "sigmoid_focal_loss"
        for key in ("weight", "sample_weight", "pos_weight", *(() if in_unit else ("alpha",))):
            if isinstance(case.options.get(key), np.ndarray):
                case.options[key] = case.options[key] * factor
    if "where" in form.options:
        for kind in ("plain", "all"):
            case = found[f"nothing counted, {kind}"] = entry(form, kind)
            rows = case.arrays[0].shape[: None if form.function in ELEMENTWISE else -1]
            case.options["where"] = np.zeros(rows, bool)
            case.options.pop("normalizer", None)
    if form.function not in (*ELEMENTWISE, "next_token_cross_entropy", *NOT_LOSSES):
        case = found["no rows"] = entry(form, "plain")
        first, *others, last = (*case.arrays, np.zeros((3, CLASSES)))[: max(2, len(case.arrays))]
        case.arrays = (first[:0], *others, last[:0])[: len(case.arrays)]
    return found


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("library", NUMPY)
def test_nothing_warns(library: str, form: Form) -> None:
    backend = get(library)
    for case in calls(form).values():
        for dtype in backend.float_dtypes():
            with np.errstate(all="ignore"):
                arrays, options = case.on(backend, dtype)
            with np.errstate(all="raise"):
                case.function(*arrays, **options)
                if case.loss in NOT_LOSSES:
                    continue
                xp_xent.value_and_grad(case.function, case.closed)(*arrays, **options)
                xp_xent.hvp(case.function)(*arrays, arrays[0], **options)
                xp_xent.hessian_diagonal(case.function)(*arrays, **options)


def test_infinite_losses_gathered() -> None:
    total: Any = xp_xent.LossAccumulator()
    with np.errstate(all="raise"):
        assert total.update(np.inf, 1.0).mean == np.inf
        assert total.update(np.inf, 1).perplexity == np.inf
        assert np.isnan(total.update(np.inf, 1.0).update(-np.inf, 1.0).mean)
        assert np.isnan(total.update(np.asarray([np.inf, -np.inf])).mean)
        assert np.isnan(total.update(float("nan"), 2).mean)
        # A number is what an array of it is.
        assert total.update(np.inf, 1.0) == total.update(np.asarray([np.inf]))
