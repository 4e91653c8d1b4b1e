"""What JAX's programs exchange on eight devices of a host: results of collectives, as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_ENABLE_X64"] = "0"

import jax
import numpy as np
from _collectives import of_call
from _programs import QUICK
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import xp_xent
from xp_xent.flow import linear_steps

P = PartitionSpec
N, K, D = 64, 4096, 96
RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(N, K)).astype(np.float32), RNG.integers(0, K, N).astype(np.int32)
SOFT = jax.nn.softmax(RNG.normal(size=(N, K)).astype(np.float32))
FEATURES = RNG.normal(size=(N, D)).astype(np.float32)
CLASSIFIER = RNG.normal(size=(K, D)).astype(np.float32)
WEIGHT = RNG.random(K).astype(np.float32)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "others": {"label_smoothing": 0.1, "smoothing": "others"},
    "weight": {"weight": WEIGHT},
    "z_loss": {"z_loss": 0.1},
    "softcap": {"softcap": 30.0},
    "temperature": {"temperature": 2.0},
    "none": {"reduction": "none"},
    "stats": {"return_stats": True},
    "soft": {"label_smoothing": 0.1, "weight": WEIGHT},
}
# How devices are laid out, and over which of their axes rows and classes are split.
MESHES = {
    "classes": ((8,), ("a",), None, "a"),
    "rows": ((8,), ("a",), "a", None),
    "one": ((1,), ("a",), None, None),
    "both": ((2, 4), ("a", "b"), "a", "b"),
    "classes twice": ((2, 4), ("a", "b"), None, ("a", "b")),
}


class Way:
    """How arrays are split, and who knows of it: the compiler (a kind of axes) or the names."""

    def __init__(self, kind: str, along: str) -> None:
        shape, names, self.rows, self.classes = MESHES[along]
        self.named = kind == "named"
        axes = AxisType.Auto if self.named else AxisType[kind]
        self.mesh = jax.make_mesh(shape, names, axis_types=(axes,) * len(names))
        self.logits, self.labels = P(self.rows, self.classes), P(self.rows)
        self.layer = P(self.rows), P(self.classes), self.labels

    def wrapped(self, function: Any, in_specs: Any, out_specs: Any) -> Any:
        if not self.named:
            return function

        def local(*arrays: Any) -> Any:
            with xp_xent.split(classes=self.classes, rows=self.rows):
                return function(*arrays)

        over = {"mesh": self.mesh, "in_specs": in_specs, "out_specs": out_specs}
        return jax.shard_map(local, **over)

    def call(self, function: Any, arrays: Any, specs: Any) -> tuple[list[int], list[str], Any]:
        """Bytes of each collective's results, how the program's results are split, and these."""
        given = [
            jax.device_put(x, NamedSharding(self.mesh, how))
            for x, how in zip(arrays, specs, strict=True)
        ]
        jitted = jax.jit(function, compiler_options=QUICK)
        found = jitted(*given)
        shards = [
            x.sharding.shard_shape(x.shape) == x.shape for x in jax.tree.leaves(found) if x.ndim
        ]
        return of_call(jitted, *given), shards, found


def scalar(result: Any) -> Any:
    return (result[0] if isinstance(result, tuple) else result).sum()


def loss_calls(way: Way, option: str) -> dict[str, Any]:
    """The loss, its gradient by JAX, and in closed form."""
    options = OPTIONS[option]
    targets, spec = (SOFT, way.logits) if option == "soft" else (LABELS, way.labels)
    arrays, specs = (LOGITS, targets), (way.logits, spec)
    value = way.labels if option == "none" else P()
    if option == "stats":
        rows = way.labels
        value = (P(), xp_xent.LossStats(rows, rows, rows, P()))

    def loss(logits: Any, targets: Any) -> Any:
        return xp_xent.cross_entropy(logits, targets, **options)

    def closed(logits: Any, targets: Any) -> Any:
        return xp_xent.value_and_grad(xp_xent.cross_entropy)(logits, targets, **options)

    whole = way.wrapped(loss, specs, value)
    return {
        "value": way.call(whole, arrays, specs),
        "grad": way.call(jax.grad(lambda *of: scalar(whole(*of))), arrays, specs),
        "closed": way.call(way.wrapped(closed, specs, (value, way.logits)), arrays, specs),
    }


def linear_calls(way: Way) -> dict[str, Any]:
    """The same of a linear layer, in steps."""
    linear_steps.STEP = (4 if way.named else 8) * K  # several steps, rows of each device in each
    arrays, specs = (FEATURES, CLASSIFIER, LABELS), way.layer
    loss = way.wrapped(xp_xent.linear_cross_entropy, specs, P())
    closed = xp_xent.value_and_grad(xp_xent.linear_cross_entropy, (0, 1))
    return {
        "value": way.call(loss, arrays, specs),
        "grad": way.call(jax.value_and_grad(loss, (0, 1)), arrays, specs),
        "closed": way.call(way.wrapped(closed, specs, (P(), specs[:2])), arrays, specs),
    }


def error(got: Any, want: Any) -> float:
    """The largest difference, relative to the largest number of an array."""
    trees = (jax.tree.leaves(tree) for tree in (got, want))
    pairs = [[np.asarray(x, dtype=np.float64) for x in pair] for pair in zip(*trees, strict=True)]
    return max(float(abs(a - b).max() / max(abs(b).max(), 1e-30)) for a, b in pairs)


def main() -> None:
    """For each argument, KIND:ALONG:OPTION or KIND:ALONG:linear, what its calls exchange."""
    found = {}
    wanted: dict[str, Any] = {}
    for argument in sys.argv[1:]:
        kind, along, option = argument.split(":")
        calls = {"linear": linear_calls}.get(option, lambda way, o=option: loss_calls(way, o))
        if option not in wanted:
            wanted[option] = calls(Way("Auto", "one"))
        result = calls(Way(kind, along))
        found[argument] = {
            name: {"bytes": sizes, "whole": whole, "error": error(got, wanted[option][name][2])}
            for name, (sizes, whole, got) in result.items()
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
