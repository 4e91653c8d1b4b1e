"""What tests of second derivatives share: which losses, how many calls, how close."""

from __future__ import annotations

import numpy as np
from _cases import LOSSES
from _truth import Array

from xp_xent.conformance.tolerance import AUTODIFF, FORMATS

EXAMPLES = {"numpy": 20, "torch": 8, "array_api_strict": 4, "dpnp": 3, "jax": 3}
# An entry of a Jensen–Shannon divergence's Hessian is of two parts, which may cancel where classes
# are far apart: losses/test_jensen_shannon.py asks for it.
ELSEWHERE = ("jensen_shannon_divergence", "linear_cross_entropy")
ROW_LOSSES = [name for name in LOSSES if name not in ELSEWHERE]


def assert_close(got: Array, want: Array, scale: Array) -> None:
    """To 1e-12 of the products that are added up."""
    eps = FORMATS["float64"].eps
    slack = AUTODIFF["float64"] * eps * scale + FORMATS["float64"].smallest_normal
    assert (np.abs(got - want) <= slack).all(), f"got {got}, wanted {want} ± {slack}"
