"""Fit a softmax classifier to handwritten digits by Newton's method, without a Hessian.

SciPy's Newton-CG asks for Hessian times vector alone. `hvp` gives it for the logits in one pass
over the rows, and the linear model carries it to the weights and back by two matrix products.
L-BFGS, which sees gradients only, minimises the same convex objective, so both must agree.

    python examples/newton_cg.py
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from common import print_table, progress
from digits import Digits, load, objective
from scipy.optimize import OptimizeResult, minimize

from xp_xent import cross_entropy, hvp

CLASSES, FEATURES = 10, 65
ROUNDS = 60  # at most; it takes about a third of that
EIGHT_DIGITS = 5e-9


class Problem:
    """The objective on flat vectors, as SciPy takes it, and how often each part was asked for."""

    def __init__(self, digits: Digits) -> None:
        self.digits, self.calls = digits, Counter[str]()

    def value_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss, and its gradient by the weights."""
        self.calls["gradients"] += 1
        weights, data = flat.reshape(CLASSES, FEATURES), self.digits
        loss, gradient = objective(np, weights, data.train, data.train_labels, data.penalty)
        return float(loss), gradient.ravel()

    def hessian_times(self, flat: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """The logits move by `vector`, the loss's gradient by H times that, the weights' back."""
        self.calls["products"] += 1
        data = self.digits
        weights, along = (x.reshape(CLASSES, FEATURES) for x in (flat, vector))
        bent = hvp(cross_entropy)(data.train @ weights.T, data.train_labels, data.train @ along.T)
        return (bent.T @ data.train + data.penalty * along).ravel()

    def minimize(self, method: str, **options: float) -> OptimizeResult:
        """Run one of SciPy's methods from zero, showing each of its iterations."""
        newton = {"hessp": self.hessian_times} if method == "Newton-CG" else {}
        with progress(method, ROUNDS) as show:
            steps = 0

            def after_step(intermediate_result: OptimizeResult) -> None:
                nonlocal steps
                steps += 1
                show(min(steps, ROUNDS), intermediate_result.fun)

            return minimize(
                self.value_and_gradient,
                np.zeros(CLASSES * FEATURES),
                jac=True,
                method=method,
                callback=after_step,
                options=options,
                **newton,
            )


def main() -> int:
    digits, found, rows = load(), {}, []
    settings = {
        "Newton-CG": {"maxiter": ROUNDS, "xtol": 1e-10},
        "L-BFGS-B": {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9},
    }
    for method, options in settings.items():
        problem = Problem(digits)
        result = found[method] = problem.minimize(method, **options)
        slope = np.abs(problem.value_and_gradient(result.x)[1]).max()
        predicted = np.argmax(digits.test @ result.x.reshape(CLASSES, FEATURES).T, axis=1)
        accuracy = np.mean(predicted == digits.test_labels)
        figures = (f"{result.fun:.12f}", f"{slope:.1e}", f"{accuracy:.4f}")
        calls = problem.calls["gradients"] - 1, problem.calls["products"]
        rows.append((method, result.nit, *calls, *figures))
    header = ("method", "steps", "gradients", "Hessian products", "loss", "max |gradient|")
    print_table((*header, "accuracy"), rows)
    newton, other = (float(found[method].fun) for method in settings)
    distance = abs(newton - other) / other
    agrees = distance <= EIGHT_DIGITS
    print(
        f"\nThe optima {'agree' if agrees else 'DO NOT agree'} to eight digits: "
        f"{distance:.1e} apart, relatively."
    )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
