"""Devices without float64: nothing asks for the library's default where the device has another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES, Form
from _registry import entries

import xp_xent
from xp_xent.backends import get

strict = pytest.importorskip("array_api_strict")
BACKEND = get("array_api_strict")
# One has no float64; the other has it, but float32 as its default.
DEVICES = [strict.Device("no_float64"), strict.Device("device2")]


def sent(value: Any, device: Any) -> Any:
    """A host array there, floats in float32."""
    if not isinstance(value, np.ndarray):
        return value
    return BACKEND.asarray(
        value, dtype="float32" if value.dtype.kind == "f" else None, device=device
    )


def assert_there(device: Any, *arrays: Any) -> None:
    """On that device, in float32."""
    for array in arrays:
        assert array.device == device
        assert array.dtype == strict.float32


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_losses(device: Any, form: Form) -> None:
    for case in entries(form):
        arrays = tuple(sent(x, device) for x in case.arrays)
        options = {name: sent(x, device) for name, x in case.options.items()}
        assert_there(device, case.function(*arrays, **options))
        if case.loss in NOT_LOSSES:
            continue
        value, gradients = xp_xent.value_and_grad(case.function, case.closed)(*arrays, **options)
        bent = xp_xent.hvp(case.function)(*arrays, arrays[0], **options)
        assert_there(device, value, *gradients, bent)
        assert_there(device, xp_xent.hessian_diagonal(case.function)(*arrays, **options))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_class_weights(device: Any) -> None:
    labels = np.asarray([0, 1, 1, 2, 2, 2])
    hot = np.eye(3, dtype=np.int64)[labels]
    for function, arguments in (
        (xp_xent.balanced_class_weights, (labels, 3)),
        (xp_xent.effective_number_weights, (labels, 3)),
        (xp_xent.positive_class_weight, (hot,)),
        (xp_xent.positive_class_weight, (hot == 1,)),
        (xp_xent.positive_class_weight, (hot.astype(float),)),
    ):
        got = function(*(sent(x, device) for x in arguments))
        assert_there(device, got)
        assert np.allclose(BACKEND.to_numpy(got), function(*arguments), rtol=1e-6)
