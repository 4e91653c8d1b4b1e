"""Predict the next byte with a vocabulary that several devices share: parts of the classes by JAX.

The model and text of language_model.py. Each device has the rows of its texts and the classes of
its part of the vocabulary, and never the logits of another; what they exchange for a loss are a
few numbers a row. The same steps on one device stand beside.

    python examples/vocabulary_parallel_jax.py [--steps 200]
"""

from __future__ import annotations

import os

# Before JAX is imported: a host's processor as four devices, unless there are others.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Adam, Array, print_table, progress
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from language_model import BYTES, CONTEXT, HIDDEN, LENGTH, ROWS, load

from xp_xent import linear_cross_entropy, split

# The vocabulary is filled up, as it is for large ones: 264 columns of which 256 are classes.
COLUMNS = 264
SPECS = (P(), P("model"), P("model"))  # input layer, classifier, bias
TEXTS = P("data")


def parameters(frequencies: np.ndarray) -> tuple[Array, ...]:
    """Return the input layer, the classifier and the bias, the last two filled up."""
    rng = np.random.default_rng(0)
    filling = COLUMNS - BYTES
    host = (
        rng.normal(size=(CONTEXT * BYTES, HIDDEN)) * 0.3,
        np.zeros((COLUMNS, HIDDEN)),
        np.pad(np.log(frequencies), (0, filling)),
    )
    return tuple(jnp.asarray(array, dtype=jnp.float32) for array in host)


def loss(parameters: tuple[Array, ...], tokens: Array) -> Array:
    """Return the mean loss of the next bytes of texts (B, T)."""
    layer, classifier, bias = parameters
    places = jnp.pad(tokens[:, :-1], ((0, 0), (CONTEXT - 1, 0)), constant_values=-1)
    length = tokens.shape[1] - 1
    hidden = jnp.zeros((tokens.shape[0], length, HIDDEN), dtype=layer.dtype)
    for back in range(CONTEXT):
        seen = jax.lax.slice_in_dim(places, CONTEXT - 1 - back, CONTEXT - 1 - back + length, axis=1)
        rows = layer[back * BYTES : (back + 1) * BYTES]
        hidden = hidden + jnp.where(seen[..., None] < 0, 0.0, rows[seen])
    return linear_cross_entropy(jnp.tanh(hidden), classifier, tokens[:, 1:], bias=bias)


def on_parts(parameters: tuple[Array, ...], tokens: Array) -> Array:
    """Return the same of one device's texts and classes: each device gets the whole mean."""
    with split(classes="model", rows="data", num_classes=BYTES):
        return loss(parameters, tokens)


def on_one(parameters: tuple[Array, ...], tokens: Array) -> Array:
    """Return the same on one device."""
    with split(num_classes=BYTES):
        return loss(parameters, tokens)


def train(
    name: str, gradient: Any, place: Any, start: tuple[Array, ...], text: np.ndarray, steps: int
) -> tuple[Array, ...]:
    """Run Adam on random pieces of the text."""
    rng, trained = np.random.default_rng(0), start
    adam = Adam(jnp, start, rate=0.005)
    with progress(name, steps) as show:
        for step in range(1, steps + 1):
            starts = rng.integers(len(text) - LENGTH, size=ROWS)
            value, slopes = gradient(trained, place(text[starts[:, None] + np.arange(LENGTH)]))
            trained = adam.step(trained, slopes)
            show(step, value)
    return trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="of the optimiser")
    steps = parser.parse_args().steps
    devices = jax.device_count()
    parts = 2 if devices % 2 == 0 else 1
    mesh = jax.make_mesh((devices // parts, parts), ("data", "model"), (AxisType.Auto,) * 2)
    text, held_out = load()
    text, held_out = text.astype(np.int32), held_out.astype(np.int32)
    start = parameters(np.bincount(text, minlength=BYTES) + 0.1)

    def placed(array: Array, spec: Any) -> Array:
        return jax.device_put(array, NamedSharding(mesh, spec))

    whole_loss = jax.shard_map(on_parts, mesh=mesh, in_specs=(SPECS, TEXTS), out_specs=P())
    window = held_out[: 32 * LENGTH].reshape(32, LENGTH)
    rows = []
    for name, function, place, begin in (
        ("one device", on_one, jnp.asarray, start),
        (
            f"{devices} devices",
            whole_loss,
            lambda tokens: placed(tokens, TEXTS),
            tuple(placed(array, spec) for array, spec in zip(start, SPECS, strict=True)),
        ),
    ):
        gradient = jax.jit(jax.value_and_grad(function))
        found = train(name, gradient, place, begin, text, steps)
        classes = found[1].sharding.shard_shape(found[1].shape)[0]
        after = float(jax.jit(function)(found, place(window)))
        rows.append((name, f"{after:.5f}", f"{np.exp(after):.3f}", classes))
    print_table(("trained on", "held-out loss", "perplexity", "classes a device"), rows)
    print(f"\n{BYTES} bytes fill {COLUMNS} columns up; no device has another's logits.")


if __name__ == "__main__":
    main()
