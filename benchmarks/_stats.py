"""What ``return_stats=True`` adds to a call: the same loss with it and without, in turns."""

from functools import partial
from typing import Any, Final, NamedTuple

from xp_xent import backends, cross_entropy
from xp_xent.benchmarks._shapes import Shape, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import HOW, Loss

Record = dict[str, Any]
SMALL, LARGE = Shape((64, 10)), Shape((2048, 32000))
SHAPES: Final = (SMALL, Shape((65536, 10)), Shape((8192, 1000)), LARGE)
SMALL_GOAL: Final = 10e-6  # seconds more, where NumPy has little to compute


class Call(NamedTuple):
    """What is called, and the most that it may take with statistics, of what it takes without."""

    title: str
    library: str
    how: str
    alone: bool  # the loss without a gradient
    goal: float


CALLS: Final = (
    Call("NumPy, value_and_grad", "numpy", "value_and_grad", alone=False, goal=1.1),
    Call("NumPy, the loss", "numpy", "value_and_grad", alone=True, goal=1.15),
    Call("PyTorch, loss.backward()", "torch", "backward", alone=False, goal=1.1),
    Call("PyTorch, the loss", "torch", "backward", alone=True, goal=1.15),
)


def _first_of(*arrays: Any) -> Any:
    return cross_entropy(*arrays, return_stats=True)[0]


def measure(call: Call, shape: Shape, dtype: str, effort: Effort) -> list[Record]:
    """Time both; the ratio, and what is more, of the medians."""
    given, backend = problem(shape, dtype), backends.get(call.library)
    z, y = backend.asarray(given.floats[0], dtype), backend.asarray(given.labels, "int64")
    with_stats: Loss = partial(cross_entropy, return_stats=True)
    if call.how == "backward":
        with_stats = _first_of
    made = {
        "plain": HOW[call.how](cross_entropy, [z], y),
        "stats": HOW[call.how](with_stats, [z], y),
    }
    times = interleaved({name: Timed(pair[call.alone]) for name, pair in made.items()}, effort)
    plain = spread(times["plain"])["median"]
    found = spread(times["stats"]) | ratio(times["stats"], times["plain"])
    return [found | {
        "line": call.title, "shape": shape.name, "plain": plain,
        "more": found["median"] - plain,
        "goal": call.goal if shape == LARGE else None,
        "more_goal": SMALL_GOAL if shape == SMALL and call.library == "numpy" else None,
    }]  # fmt: skip
