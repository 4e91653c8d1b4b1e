"""Predict the next byte of Python's own manual: a small neural language model and its perplexity.

The text is `pydoc_data.topics`, what ``help()`` prints, which comes with Python. The model
sees the last six bytes through one hidden layer. Training goes from features to loss without
logits; evaluation streams the held-out text through an accumulator.

    python examples/language_model.py [--backend torch]
"""

from __future__ import annotations

from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from common import Adam, Array, parse_options, print_table, progress

from xp_xent import (
    LossAccumulator,
    backends,
    linear_cross_entropy,
    next_token_cross_entropy,
    perplexity,
    value_and_grad,
)

BYTES, CONTEXT, HIDDEN = 256, 6, 128
ROWS, LENGTH = 16, 64  # of a training batch


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes to train on and the last tenth, held out."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    cut = len(tokens) * 9 // 10
    return tokens[:cut], tokens[cut:]


class Model:
    """One-hot bytes at each of the last `CONTEXT` places → tanh layer → logits of the next."""

    def __init__(self, backend: Any, frequencies: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        host = (
            rng.normal(size=(CONTEXT * BYTES, HIDDEN)) * 0.3,
            np.zeros((BYTES, HIDDEN)),
            np.log(frequencies),  # so it starts as good as the unigram model
        )
        self.xp = backend.xp
        self.alphabet = backend.asarray(np.arange(BYTES))
        self.parameters = tuple(backend.asarray(p, dtype="float32") for p in host)

    def hidden(self, tokens: Array) -> tuple[Array, Array]:
        """Return the contexts (B, T, CONTEXT·BYTES) and the hidden layer (B, T, HIDDEN)."""
        xp = self.xp
        seen = xp.astype(tokens[..., None] == self.alphabet, xp.float32)
        nothing = xp.zeros_like(seen)
        length = tokens.shape[1]
        places = [
            xp.concat([nothing[:, :back, :], seen[:, : length - back, :]], axis=1)
            for back in range(CONTEXT)
        ]
        contexts = xp.concat(places, axis=2)
        return contexts, xp.tanh(contexts @ self.parameters[0])

    def logits(self, tokens: Array) -> Array:
        """Return what the model expects after each byte, (B, T, BYTES)."""
        _, classifier, bias = self.parameters
        return self.hidden(tokens)[1] @ classifier.T + bias

    def loss_and_gradients(self, tokens: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean loss of the next bytes and its gradient by every parameter."""
        _, classifier, bias = self.parameters
        contexts, hidden = self.hidden(tokens[:, :-1])
        loss, (d_hidden, d_classifier, d_bias) = value_and_grad(
            linear_cross_entropy, argnums=(0, 1, "bias")
        )(hidden, classifier, tokens[:, 1:], bias=bias)
        d_inner = d_hidden * (1 - hidden * hidden)
        d_input = self.xp.tensordot(contexts, d_inner, axes=((0, 1), (0, 1)))
        return loss, (d_input, d_classifier, d_bias)


def windows(backend: Any, tokens: np.ndarray, starts: np.ndarray) -> Array:
    """Cut pieces of `LENGTH` bytes out of the text, (B, LENGTH)."""
    return backend.asarray(tokens[starts[:, None] + np.arange(LENGTH)])


def train(backend: Any, model: Model, tokens: np.ndarray, steps: int) -> float:
    """Run Adam on random pieces of the text; return the perplexity of one more piece of it."""
    rng = np.random.default_rng(0)
    adam = Adam(backend.xp, model.parameters, rate=0.005)
    with progress("language model", steps) as show:
        for step in range(1, steps + 1):
            batch = windows(backend, tokens, rng.integers(len(tokens) - LENGTH, size=ROWS))
            loss, gradients = model.loss_and_gradients(batch)
            model.parameters = adam.step(model.parameters, gradients)
            show(step, loss)
    batch = windows(backend, tokens, rng.integers(len(tokens) - LENGTH, size=8 * ROWS))
    return float(perplexity(model.logits(batch)[:, :-1, :], batch[:, 1:]))


def evaluate(backend: Any, logits: Callable[[Array], Array], tokens: np.ndarray) -> LossAccumulator:
    """Add up the losses of the text, window by window; each starts at the last one's last byte."""
    total = LossAccumulator()
    starts = np.arange(0, len(tokens) - LENGTH, LENGTH - 1)
    for batch in np.array_split(starts, max(len(starts) // ROWS, 1)):
        window = windows(backend, tokens, batch)
        total = total.update(next_token_cross_entropy(logits(window), window, reduction="none"))
    return total


def main() -> None:
    options = parse_options(__doc__, steps=400)
    backend = backends.get(options.backend)
    xp = backend.xp
    text, held_out = load()
    # Counts are unnormalised probabilities, so their logarithms are logits; 0.1 stands in for 0.
    unigrams = np.bincount(text, minlength=BYTES) + 0.1
    pairs = np.bincount(text[:-1] * BYTES + text[1:], minlength=BYTES * BYTES) + 0.1
    frequencies = backend.asarray(np.log(unigrams), dtype="float32")
    table = backend.asarray(np.log(pairs.reshape(BYTES, BYTES)), dtype="float32")

    def unigram(tokens: Array) -> Array:
        return xp.broadcast_to(frequencies, (*tokens.shape, BYTES))

    def bigram(tokens: Array) -> Array:
        rows = xp.take(table, xp.reshape(tokens, (-1,)), axis=0)
        return xp.reshape(rows, (*tokens.shape, BYTES))

    model = Model(backend, unigrams)
    seen = train(backend, model, text, options.steps)
    rows = []
    for name, logits in (("unigram", unigram), ("bigram", bigram), ("neural", model.logits)):
        total = evaluate(backend, logits, held_out)
        bits = total.mean / np.log(2)
        rows.append((name, f"{total.perplexity:.3f}", f"{bits:.3f}", f"{total.weight:.0f}"))
    print_table(("model", "perplexity", "bits per byte", "bytes"), rows)
    print(f"\nEach byte is held out. On text it was trained on, the neural model has {seen:.3f}.")


if __name__ == "__main__":
    main()
