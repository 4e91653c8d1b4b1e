"""What an estimator of scikit-learn asks of its data, of any library."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from sklearn import get_config
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from xp_xent import balanced_class_weights
from xp_xent.integrations._softmax_regression import on_host

Array = Any


def floating_dtypes(X: Array) -> list[Any]:
    """Return the dtypes that are kept; the first stands for all others."""
    dispatched = get_config()["array_api_dispatch"] and hasattr(X, "device")
    xp = array_namespace(X) if dispatched else np
    return [xp.float64, xp.float32]


def example_weights(
    class_weight: Any, classes: np.ndarray, codes: np.ndarray, given: Array | None
) -> np.ndarray:
    """Return the weight of each example: what is given, times that of its class."""
    weight = _check_sample_weight(None if given is None else on_host(given), codes)
    if np.unique(codes[weight != 0]).size < 2:
        raise ValueError("y: got one class with a weight, wanted at least two classes")
    if class_weight == "balanced":
        return weight * balanced_class_weights(codes, len(classes), sample_weight=weight)[codes]
    return weight * compute_class_weight(class_weight, classes=classes, y=classes)[codes]


def check_same_place(X: Array, fitted: Array, caller: str) -> None:
    """Refuse features of another library or device than the fitted arrays."""
    if (array_namespace(X), device(X)) == (array_namespace(fitted), device(fitted)):
        return
    got, wanted = (f"{type(array).__name__} on {device(array)}" for array in (X, fitted))
    raise ValueError(
        f"{caller}: X must use the same namespace and device as in fit(), got {got}, "
        f"wanted {wanted}"
    )
