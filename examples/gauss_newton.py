"""Teach a small PyTorch network what another one knows, in Gauss-Newton steps.

The student minimises the Kullback-Leibler divergence from the teacher's probabilities. With J the
Jacobian of its logits by its parameters and H the loss's Hessian by the logits, a step solves
(Jᵀ H J + δ) d = −g. J is `torch.func.jacrev` of the network, and H J is `hvp`, mapped by `vmap`
over the columns of J; the loss's own Hessian is never stored. Where the student can match the
teacher, Jᵀ H J is the whole Hessian at the optimum, and the convergence is quadratic: correct
digits double with each step.

    python examples/gauss_newton.py
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, NamedTuple

import torch
from common import print_table, progress
from sklearn.datasets import load_iris
from torch.func import jacrev, vjp, vmap

from xp_xent import hvp, kl_divergence, value_and_grad

Tensor = torch.Tensor
SIZES = ((4, 6), (6,), (6, 3), (3,))  # weights and bias of the hidden layer, then of the output
STEPS = 60
DONE = 1e-13  # of the gradient's largest entry: rounding is all that is left


class Student(NamedTuple):
    """What the network is fitted to; the parameters are one flat vector throughout."""

    features: Tensor  # (N, 4)
    targets: Tensor  # (N, 3), the teacher's probabilities

    def logits(self, parameters: Tensor) -> Tensor:
        """Run the network on all examples."""
        weights, bias, classifier, offset = (
            part.reshape(shape)
            for part, shape in zip(
                parameters.split([torch.Size(s).numel() for s in SIZES]), SIZES, strict=True
            )
        )
        return torch.tanh(self.features @ weights + bias) @ classifier + offset

    def loss(self, parameters: Tensor) -> Tensor:
        """Return the mean divergence from the teacher."""
        return kl_divergence(self.logits(parameters), self.targets)

    def gradient(self, parameters: Tensor) -> Tensor:
        """Return Jᵀ times the loss's gradient by the logits."""
        logits, pull = vjp(self.logits, parameters)
        return pull(value_and_grad(kl_divergence)(logits, self.targets)[1])[0]

    def gauss_newton(self, parameters: Tensor) -> Tensor:
        """Return Jᵀ H J."""
        logits, jacobian = self.logits(parameters), jacrev(self.logits)(parameters)  # (N, 3, P)
        product = partial(hvp(kl_divergence), logits, self.targets)
        bent = vmap(product, in_dims=-1, out_dims=-1)(jacobian)
        return torch.einsum("ncp,ncq->pq", jacobian, bent)


def initial(seed: int, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = sum(torch.Size(shape).numel() for shape in SIZES)
    return scale * torch.randn(size, dtype=torch.float64, generator=generator)


def fit(student: Student, parameters: Tensor) -> list[tuple[float, float, float]]:
    """Levenberg's damping, in proportion to the gradient: far away careful, near the end none."""
    history, caution = [], 1.0
    with progress("Gauss-Newton", STEPS) as show:
        for step in range(1, STEPS + 1):
            loss, gradient = student.loss(parameters), student.gradient(parameters)
            size = float(gradient.abs().max())
            damping = caution * size
            history.append((float(loss), size, damping))
            show(step, loss)
            if size < DONE:
                break
            matrix = student.gauss_newton(parameters)
            matrix = matrix + damping * torch.eye(len(parameters), dtype=parameters.dtype)
            ahead = parameters - torch.linalg.solve(matrix, gradient)
            if student.loss(ahead) <= loss or size < 1e-8:  # below, the loss is only rounding
                parameters, caution = ahead, caution / 2
            else:
                caution *= 8
    return history


def main() -> int:
    torch.manual_seed(0)
    host = load_iris().data
    features = torch.tensor((host - host.mean(0)) / host.std(0))
    teacher = Student(features, torch.empty(0))
    with torch.no_grad():
        targets = torch.softmax(teacher.logits(initial(seed=1, scale=1.0)), dim=1)
    history = fit(Student(features, targets), initial(seed=1, scale=1.0) + initial(2, 0.3))
    rows: list[tuple[Any, ...]] = []
    for step, (loss, size, damping) in enumerate(history, start=1):
        order = "" if step == 1 else f"{size / history[step - 2][1] ** 2:.1e}"
        rows.append((step, f"{loss:.3e}", f"{size:.1e}", f"{damping:.0e}", order))
    print_table(("step", "loss", "max |g|", "damping", "|g| / previous²"), rows)
    done = history[-1][1] < DONE
    print("\nQuadratic: near the end the last column stays bounded while |g| falls to rounding.")
    print(f"{'Converged' if done else 'NOT converged'} in {len(history)} steps.")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
