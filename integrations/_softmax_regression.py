"""Penalised softmax regression as scipy.optimize wants it: NumPy parameters, arrays elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_cupy_array, is_torch_array
from scipy.optimize import OptimizeResult, minimize

from xp_xent import hvp, value_and_grad

Array = Any


@dataclass(frozen=True)
class SoftmaxRegression:
    """The mean loss of `X @ W.T + b` plus ½·penalty·‖W‖², of parameters [W, b] in one vector.

    Two classes have one row of W, the log-odds of the second: its logits are 0 and the score.
    """

    X: Array
    labels: Array
    weight: Array
    classes: int
    fit_intercept: bool
    penalty: float
    loss: Callable[..., Array]
    options: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """The parameters' shape."""
        rows = 1 if self.classes == 2 else self.classes
        return rows, self.X.shape[1] + self.fit_intercept

    def minimise(self, solver: str, tol: float, max_iter: int) -> OptimizeResult:
        """Run a solver from zeros."""
        newton = solver == "newton-cg"
        # L-BFGS has a limit to the loss's change besides, which would stop it short of `tol`.
        options = {"gtol": tol} | ({} if newton else {"ftol": 0, "maxls": 50})
        return minimize(
            self.value_and_gradient, np.zeros(self.shape).reshape(-1), jac=True,
            method="trust-ncg" if newton else "L-BFGS-B", hessp=self.hvp if newton else None,
            options=options | {"maxiter": max_iter},
        )  # fmt: skip

    def value_and_gradient(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return what is minimised, and its gradient."""
        logits = with_reference(self._scores(parameters), self.classes)
        value, gradient = value_and_grad(self.loss)(logits, self.labels, **self._call)
        total = self._total
        slopes = self._pull_back(gradient) / total + self._penalised(parameters)
        squared = float(np.sum(self._penalised(parameters) * parameters))
        return float(value) / total + squared / 2, slopes

    def hvp(self, parameters: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Return the Hessian times a vector."""
        logits = with_reference(self._scores(parameters), self.classes)
        moved = with_reference(self._scores(vector), self.classes)
        product = hvp(self.loss)(logits, self.labels, moved, **self._call)
        return self._pull_back(product) / self._total + self._penalised(vector)

    def split(self, parameters: np.ndarray) -> tuple[Array, Array]:
        """Return W and b in the library of X; b is 0 where there is none."""
        matrix = parameters.reshape(self.shape)
        features = self.X.shape[1]
        intercept = matrix[:, features] if self.fit_intercept else np.zeros(len(matrix))
        return beside(matrix[:, :features], self.X), beside(intercept, self.X)

    @property
    def _call(self) -> dict[str, Any]:
        return self.options | {"sample_weight": self.weight, "reduction": "sum"}

    @property
    def _total(self) -> float:
        return float(array_namespace(self.weight).sum(self.weight))

    def _scores(self, parameters: np.ndarray) -> Array:
        coefficients, intercept = self.split(parameters)
        return self.X @ coefficients.T + intercept

    def _pull_back(self, by_logits: Array) -> np.ndarray:
        """Return derivatives by the parameters from those by the logits."""
        xp = array_namespace(by_logits)
        by_scores = by_logits[:, -self.shape[0] :]
        parts = [on_host(by_scores.T @ self.X)]
        if self.fit_intercept:
            parts.append(on_host(xp.sum(by_scores, axis=0))[:, None])
        return np.concatenate(parts, axis=1, dtype=np.float64).reshape(-1)

    def _penalised(self, parameters: np.ndarray) -> np.ndarray:
        """Return the penalty's gradient, which is also its Hessian times a vector."""
        product = self.penalty * parameters.reshape(self.shape)
        product[:, self.X.shape[1] :] = 0
        return product.reshape(-1)


def with_reference(scores: Array, classes: int) -> Array:
    """Return logits of all classes: where one has no score, it is the first, and has 0."""
    if scores.shape[1] == classes:
        return scores
    xp = array_namespace(scores)
    return xp.concat([xp.zeros_like(scores), scores], axis=1)


def on_host(array: Array) -> np.ndarray:
    """Return an array of any library, or a sequence, as NumPy's."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return np.asarray(array)
    if is_cupy_array(array):
        return array.get()
    if is_torch_array(array):
        array = array.detach().cpu()
    return np.from_dlpack(array, device="cpu")


def beside(array: Array, other: Array) -> Array:
    """Return NumPy's numbers, or the other's library's, in that one's library, dtype and place."""
    xp = array_namespace(other)
    return xp.asarray(array, dtype=other.dtype, device=device(other))
