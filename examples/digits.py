"""Fit one softmax classifier to handwritten digits, from one source, on every installed backend.

The model is multinomial logistic regression, so there is a right answer to agree with: the
objective is convex, and scikit-learn's ``LogisticRegression`` minimises the same one.

    python examples/digits.py                      every backend that is installed
    python examples/digits.py --backend numpy      NumPy alone
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from common import Array, prepare_libraries, print_table, progress
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from xp_xent import backends, linear_cross_entropy, value_and_grad

C = 1.0  # scikit-learn's inverse strength of the penalty
SIX_DIGITS = 5e-7  # two numbers this close, relatively, agree to six digits


class Digits(NamedTuple):
    """The data on the host; the last feature is a constant 1, whose weights are the bias."""

    train: np.ndarray  # (N, 65)
    train_labels: np.ndarray  # (N,)
    test: np.ndarray
    test_labels: np.ndarray
    penalty: np.ndarray  # (65,): how much each feature's weights are penalised, the bias not


def load() -> Digits:
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images / 16, labels.astype(np.int64), test_size=0.25, random_state=0, stratify=labels
    )
    # Centring changes nothing but the bias, and conditions the problem.
    mean = train.mean(axis=0)
    train = np.c_[train - mean, np.ones(len(train))]
    test = np.c_[test - mean, np.ones(len(test))]
    # LogisticRegression minimises C·Σ loss + ‖W‖²/2. Ours is the mean: divide by C·N.
    penalty = np.r_[np.full(64, 1 / (C * len(train))), 0.0]
    return Digits(train, train_labels, test, test_labels, penalty)


def objective(
    xp: Any, weights: Array, features: Array, labels: Array, penalty: Array
) -> tuple[Array, Array]:
    """Mean cross-entropy plus the penalty, and the gradient by the weights (10, 65)."""
    loss, gradient = value_and_grad(linear_cross_entropy, argnums=1)(features, weights, labels)
    decay = penalty * weights
    return loss + xp.sum(decay * weights) / 2, gradient + decay


@dataclass(frozen=True)
class Fit:
    """What one row of the table reports."""

    name: str
    device: str
    steps: int
    loss: float
    weights: np.ndarray
    seconds: float


def fit(name: str, digits: Digits, steps: int) -> Fit:
    """Nesterov's accelerated gradient descent, the same lines on every backend."""
    backend = backends.get(name)
    features = backend.asarray(digits.train, dtype="float64")
    labels = backend.asarray(digits.train_labels)
    penalty = backend.asarray(digits.penalty, dtype="float64")
    weights = previous = backend.asarray(np.zeros((10, 65)), dtype="float64")
    # The Hessian of softmax is at most 1/2, which bounds the curvature; the penalty is its floor.
    curvature = np.linalg.norm(digits.train, 2) ** 2 / len(digits.train) / 2 + digits.penalty[0]
    root = float(np.sqrt(digits.penalty[0] / curvature))
    momentum, rate = (1 - root) / (1 + root), 1 / float(curvature)
    started = time.perf_counter()
    with progress(name, steps) as show:
        for step in range(1, steps + 1):
            ahead = weights + momentum * (weights - previous)
            loss, gradient = objective(backend.xp, ahead, features, labels, penalty)
            previous, weights = weights, ahead - rate * gradient
            show(step, loss)
    loss, _ = objective(backend.xp, weights, features, labels, penalty)
    final, seconds = float(loss), time.perf_counter() - started
    device = str(getattr(weights, "device", "cpu")).removeprefix("array_api_strict.")
    return Fit(name, device, steps, final, backend.to_numpy(weights), seconds)


def fit_with_scipy(digits: Digits) -> Fit:
    """NumPy again, with SciPy's L-BFGS as the optimiser: it asks for a value and a gradient."""

    def flat(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(
            np, weights.reshape(10, 65), digits.train, digits.train_labels, digits.penalty
        )
        return float(loss), gradient.ravel()

    started = time.perf_counter()
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(flat, np.zeros(650), jac=True, method="L-BFGS-B", options=options)
    seconds = time.perf_counter() - started
    weights = found.x.reshape(10, 65)
    return Fit("numpy, SciPy's L-BFGS", "cpu", found.nit, float(found.fun), weights, seconds)


def fit_with_sklearn(digits: Digits) -> Fit:
    """The answer to agree with: none of this library in it, not even to evaluate the loss."""
    started = time.perf_counter()
    model = LogisticRegression(C=C, tol=1e-9, max_iter=10_000)
    model.fit(digits.train[:, :64], digits.train_labels)
    seconds = time.perf_counter() - started
    loss = log_loss(digits.train_labels, model.predict_proba(digits.train[:, :64]))
    loss += float(np.sum(digits.penalty[:64] * model.coef_**2)) / 2
    weights = np.c_[model.coef_, model.intercept_]
    return Fit("scikit-learn", "cpu", int(model.n_iter_[0]), loss, weights, seconds)


def report(fits: Sequence[Fit], reference: Fit, digits: Digits) -> bool:
    """Print the table and the verdict; return whether every loss agrees with the reference."""
    first = fits[0]
    rows = []
    for row in (*fits, reference):
        accuracy = np.mean(np.argmax(digits.test @ row.weights.T, axis=1) == digits.test_labels)
        apart = np.max(np.abs(row.weights - first.weights))
        figures = (f"{row.loss:.12f}", f"{accuracy:.4f}", f"{apart:.1e}", f"{row.seconds:.2f}")
        rows.append((row.name, row.device, row.steps, *figures))
    print_table(
        ("backend", "device", "steps", "loss", "accuracy", "max |Δ weights|", "seconds"), rows
    )
    backend_losses = [row.loss for row in fits]
    spread = max(backend_losses) - min(backend_losses)
    distance = max(abs(row.loss - reference.loss) for row in fits) / reference.loss
    agrees = distance <= SIX_DIGITS
    print(f"\nAccuracy is on {len(digits.test)} held-out digits; differences are to {first.name}.")
    print(f"Largest difference between two losses above scikit-learn's: {spread:.1e}.")
    print(
        f"The losses {'agree' if agrees else 'DO NOT agree'} with scikit-learn's "
        f"LogisticRegression(C={C:g}) to six digits: at most {distance:.1e} apart, relatively."
    )
    return bool(agrees)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", action="append", help="repeatable; default: every one here")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    prepare_libraries()
    digits = load()
    fits = []
    # Steps on Dask arrays would be one ever longer graph.
    steps_on = [name for name in backends.installed() if name != "dask"]
    for name in options.backend or steps_on:
        if "float64" in backends.get(name).float_dtypes():
            fits.append(fit(name, digits, options.steps))
        else:
            print(f"{name}: left out, its device has no float64")
    fits.append(fit_with_scipy(digits))
    return 0 if report(fits, fit_with_sklearn(digits), digits) else 1


if __name__ == "__main__":
    sys.exit(main())
