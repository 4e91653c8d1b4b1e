"""The tests' own truth, against PyTorch's autograd through textbook formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import LOSSES, Case, cases
from hypothesis import given, seed, settings

from xp_xent.conformance.tolerance import AUTODIFF, FORMATS

torch = pytest.importorskip("torch")
import _naive  # noqa: E402


@pytest.mark.parametrize("loss", LOSSES)
def test_agrees_with_autograd(loss: str) -> None:
    """Values and the gradient by the first array, where float64 formulas do not lose them."""

    @seed(9)
    @settings(max_examples=50)
    @given(cases(loss))
    def check(case: Case) -> None:
        truth = case.truth()
        first, *rest = (torch.tensor(a) for a in case.arrays)
        first.requires_grad_()
        value = getattr(_naive, loss)(first, *rest, **_tensors(case.options))
        cotangent = np.ones(truth.value.shape) if case.cotangent is None else case.cotangent
        (gradient,) = torch.autograd.grad(value, first, torch.tensor(cotangent))
        assert value.shape == truth.value.shape
        if np.isfinite(truth.value).all():  # nothing counted: autograd's zeros are NaN
            close(value.detach().numpy(), truth.value, truth.scale)
            # Where 1 − p rounds to 0, its power has no slope for autograd.
            lost = np.isnan(gradient.numpy()) & (loss == "softmax_focal_loss")
            got = np.where(lost, truth.gradients[0], gradient.numpy())
            close(got, truth.gradients[0], truth.gradient_scales[0])

    check()


def _tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def close(got: Any, want: Any, scale: Any) -> None:
    """To 1e-12 of the largest size: the naive formulas cancel, the reference must not be wrong."""
    slack = AUTODIFF["float64"] * FORMATS["float64"].eps * max(np.max(scale, initial=0), 1)
    assert (np.abs(got - want) <= slack).all(), f"{got} {want}"
