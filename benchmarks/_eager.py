"""JAX outside `jit`, beside optax there: the loss, the closed form, and JAX's own derivative."""

from functools import partial
from time import perf_counter
from typing import Any, Final

import xp_xent
from xp_xent import backends
from xp_xent.benchmarks._shapes import Shape, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import forget_compiled

Record = dict[str, Any]
SHAPES: Final = (Shape((64, 10)), Shape((64, 1000)), Shape((1024, 32000)))
# what -> its goal: our median time over optax's
GOALS: Final = {"loss": 0.3, "value_and_grad(loss)": 0.3, "jax.grad(loss)": 0.6}


def measure(what: str, shape: Shape, dtype: str, effort: Effort) -> list[Record]:
    """Time a first call, and further ones in turns with optax's; optax's closed form is JAX's."""
    import jax
    from optax.losses import softmax_cross_entropy_with_integer_labels as rows

    def peer(z: Any, y: Any) -> Any:
        return rows(z, y).mean()

    given, backend = problem(shape, dtype), backends.get("jax")
    arrays = backend.asarray(given.floats[0], dtype), backend.asarray(given.labels, "int32")
    ours = xp_xent.cross_entropy
    pairs: dict[str, tuple[Any, Any]] = {
        "loss": (ours, peer),
        "value_and_grad(loss)": (xp_xent.value_and_grad(ours), jax.value_and_grad(peer)),
        "jax.grad(loss)": (jax.grad(ours), jax.grad(peer)),
    }
    calls, first = {}, {}
    for name, function in zip(("ours", "theirs"), pairs[what], strict=True):
        calls[name] = Timed(partial(function, *arrays), jax.block_until_ready)
        forget_compiled()
        start = perf_counter()
        jax.block_until_ready(function(*arrays))
        first[name] = perf_counter() - start
    times = interleaved(calls, effort)
    about = {"what": what, "shape": shape.name, "first": first["ours"], "goal": GOALS[what]}
    about |= {"their_first": first["theirs"], "theirs": spread(times["theirs"])["median"]}
    return [about | spread(times["ours"]) | ratio(times["ours"], times["theirs"])]
