"""NumPy arrays with their bytes in the other order, as FITS and netCDF files have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES, Form
from _registry import Entry, entries

import xp_xent
from xp_xent.backends import _numpy_walk, dtype_name, get

NUMPY = get("numpy")


def swapped(value: Any) -> Any:
    """The same numbers in the other byte order."""
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(value.dtype.newbyteorder("S"))


def answers(case: Entry, arrays: Any, options: dict[str, Any], cotangent: Any) -> list[Any]:
    """What every method says of a call."""
    found = [case.function(*arrays, **options)]
    if case.loss in NOT_LOSSES:
        return found
    by = {} if cotangent is None else {"cotangent": cotangent}
    gradient = xp_xent.value_and_grad(case.function, case.closed)
    value, gradients = gradient(*arrays, **options, **by)
    product = xp_xent.hvp(case.function)(*arrays, arrays[0], **options)
    return [
        *found, value, *gradients, product,
        xp_xent.hessian_diagonal(case.function)(*arrays, **options),
    ]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_same_bits_in_native_order(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    for case in entries(form):
        for dtype in ("float16", "float32", "float64"):
            arrays, options = case.on(NUMPY, dtype)
            want = answers(case, arrays, options, case.cotangent)
            others = tuple(map(swapped, arrays)), {k: swapped(v) for k, v in options.items()}
            assert not others[0][0].dtype.isnative
            for block in (_numpy_walk.BLOCK, 8):
                monkeypatch.setattr(_numpy_walk, "BLOCK", block)
                got = answers(case, *others, swapped(case.cotangent))
                for one, two in zip(got, want, strict=True):
                    assert one.dtype == two.dtype
                    assert one.dtype.isnative
                    assert np.array_equal(one, two), (case.name, dtype)
            monkeypatch.undo()


def test_labels_of_any_width() -> None:
    z = np.linspace(0.0, 1.0, 12).reshape(4, 3)
    want = xp_xent.cross_entropy(z, np.asarray([0, 2, 2, 1]), ignore_index=2)
    for kind in ("int16", "uint16", "int32", "uint32", "int64", "uint64"):
        labels = swapped(np.asarray([0, 2, 2, 1], dtype=kind))
        assert xp_xent.cross_entropy(z, labels, ignore_index=2) == want
        with pytest.raises(ValueError, match=r"got label 3 at position \(0,\)"):
            xp_xent.cross_entropy(z, swapped(np.asarray([3, 2, 2, 1], dtype=kind)))


def test_metrics_and_weights() -> None:
    labels, hot = np.asarray([0, 1, 1, 2]), np.eye(3)
    for function, arguments in (
        (xp_xent.balanced_class_weights, (labels, 3)),
        (xp_xent.effective_number_weights, (labels, 3)),
        (xp_xent.positive_class_weight, (hot,)),
        (xp_xent.diagnose, (hot, labels[:3])),
        (xp_xent.LossAccumulator().update, (labels, hot[0])),
    ):
        want, got = function(*arguments), function(*map(swapped, arguments))
        assert np.array_equal(got, want)
        assert getattr(got, "dtype", hot.dtype).isnative


def test_a_wrong_dtype_is_named() -> None:
    assert dtype_name(np.dtype(">f4")) == dtype_name(np.dtype("<f4")) == "float32"
    with pytest.raises(TypeError, match="logits: got dtype int32, wanted one of float16"):
        xp_xent.cross_entropy(swapped(np.zeros((2, 3), np.int32)), np.zeros(2, int))
