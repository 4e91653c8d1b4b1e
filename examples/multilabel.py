"""Answer four yes-or-no questions about a handwritten digit, with a quarter of the answers missing.

Multilabel classification is one binary cross-entropy an answer; ``where`` leaves out the answers
that nobody gave. The model has one hidden layer, and its chain rule is written out: below the
loss's own gradient it takes four lines.

    python examples/multilabel.py [--backend torch]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Adam, Array, parse_options, print_table, progress
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from xp_xent import backends, binary_cross_entropy_with_logits, value_and_grad

QUESTIONS = {
    "is it even?": (0, 2, 4, 6, 8),
    "is it prime?": (2, 3, 5, 7),
    "has it a loop?": (0, 6, 8, 9),
    "is it above 4?": (5, 6, 7, 8, 9),
}


def answers(digits: np.ndarray) -> np.ndarray:
    """Give the right answers, (N, 4), from the digits (N,)."""
    return np.stack([np.isin(digits, yes) for yes in QUESTIONS.values()], axis=-1)


def initial(backend: Any, rng: np.random.Generator) -> tuple[Array, ...]:
    """Weights and bias of the hidden layer, then of the output."""
    shapes = (64, 32), (32,), (32, 4), (4,)
    host = [rng.normal(size=s) / np.sqrt(s[0]) if len(s) == 2 else np.zeros(s) for s in shapes]
    return tuple(backend.asarray(p, dtype="float32") for p in host)


def forward(xp: Any, parameters: tuple[Array, ...], images: Array) -> tuple[Array, Array]:
    """Return the hidden layer and the logits (N, 4)."""
    weights, bias, classifier, offset = parameters
    hidden = xp.tanh(images @ weights + bias)
    return hidden, hidden @ classifier + offset


def gradients(
    xp: Any, parameters: tuple[Array, ...], images: Array, targets: Array, known: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Return the loss over the known answers, and its gradient by every parameter."""
    hidden, logits = forward(xp, parameters, images)
    loss_and_gradient = value_and_grad(binary_cross_entropy_with_logits)
    loss, d_logits = loss_and_gradient(logits, targets, where=known)
    d_classifier, d_offset = hidden.T @ d_logits, xp.sum(d_logits, axis=0)
    d_inner = (d_logits @ parameters[2].T) * (1 - hidden * hidden)
    return loss, (images.T @ d_inner, xp.sum(d_inner, axis=0), d_classifier, d_offset)


def main() -> None:
    options = parse_options(__doc__, steps=300)
    backend, rng = backends.get(options.backend), np.random.default_rng(0)
    images, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(
        images / 16, digits, test_size=0.25, random_state=0, stratify=digits
    )
    truth = answers(train_digits)
    given = rng.random(truth.shape) < 0.75
    x = backend.asarray(train, dtype="float32")
    # What stands in a missing cell does not matter; NaN shows that nothing reads it.
    targets = backend.asarray(np.where(given, truth, np.nan), dtype="float32")
    known = backend.asarray(given)
    parameters = initial(backend, rng)
    adam = Adam(backend.xp, parameters)
    with progress("multilabel", options.steps) as show:
        for step in range(1, options.steps + 1):
            loss, slopes = gradients(backend.xp, parameters, x, targets, known)
            parameters = adam.step(parameters, slopes)
            show(step, loss)
    _, logits = forward(backend.xp, parameters, backend.asarray(test, dtype="float32"))
    predicted, right = backend.to_numpy(logits) > 0, answers(test_digits)
    rows = []
    for column, question in enumerate(QUESTIONS):
        p, r = predicted[:, column], right[:, column]
        always = max(r.mean(), 1 - r.mean())
        rows.append((question, f"{np.mean(p == r):.3f}", f"{f1_score(r, p):.3f}", f"{always:.3f}"))
    print(f"\n{np.mean(~given):.0%} of the training answers are missing; {options.backend}")
    print_table(("question", "accuracy", "F1", "accuracy of one constant answer"), rows)
    every = np.mean(np.all(predicted == right, axis=1))
    print(f"\nAll four answers right for {every:.1%} of {len(test)} held-out digits.")


if __name__ == "__main__":
    main()
