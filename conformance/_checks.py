"""Checks beyond values: what must hold of every answer, whatever the logits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.conformance._load import Host
from xp_xent.conformance._subject import Failure, Subject, ask
from xp_xent.conformance.tolerance import log_odds, row_tolerance

Floats = NDArray[np.float64]
ROWS, CLASSES = 6, 5
BINARY: Final = "binary_cross_entropy_with_logits"
# An offset that float16, bfloat16, float32 and float64 add to quarters without rounding
OFFSETS: Final = {"float16": 256.0, "bfloat16": 32.0, "float32": 2.0**20, "float64": 2.0**40}


@dataclass(frozen=True)
class Asker:
    """Ask one subject for one function at one dtype, and check dtype and shape on the way."""

    subject: Subject
    function: str
    dtype: str

    def _ask(
        self, what: str, logits: Floats, targets: NDArray[Any], options: dict[str, Any]
    ) -> Floats:
        compute = COMPUTE[self.dtype]
        hosts = {
            "logits": Host(self.dtype, _host(logits, self.dtype)),
            "targets": _of(targets, self.dtype),
        }
        named = {k: _of(v, compute) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        got = ask(self.subject, what, self.function, hosts, named)
        dtype = compute if what == "value" else self.dtype
        if got.dtype != dtype:
            raise Failure("dtype", f"{what}: got {got.dtype}, wanted {dtype}")
        shape: tuple[int, ...] = logits.shape
        if what == "value":
            rows = shape if self.function == BINARY else shape[:-1]
            shape = rows if options.get("reduction") == "none" else ()
        if got.array.shape != shape:
            raise Failure("shape", f"{what}: got shape {got.array.shape}, wanted {shape}")
        return got.array.astype(np.float64)

    def value(self, logits: Floats, targets: NDArray[Any], **options: Any) -> Floats:
        """Ask for a loss."""
        return self._ask("value", logits, targets, options)

    def gradient(self, logits: Floats, targets: NDArray[Any], **options: Any) -> Floats:
        """Ask for a gradient."""
        return self._ask("gradient", logits, targets, options)

    @property
    def parts(self) -> tuple[Callable[..., Floats], ...]:
        """What the subject has: values, gradients or both."""
        both = ((self.subject.functions, self.value), (self.subject.gradients, self.gradient))
        found = tuple(call for calls, call in both if self.function in calls)
        if not found:
            raise NotImplementedError(f"no {self.function}")
        return found


@dataclass(frozen=True)
class Check:
    """A property, asked of one function at one dtype.

    Attributes
    ----------
    id, function, dtype, comment, flags, topic
        As of a `Vector`.
    holds : callable
        Takes an `Asker`; raises `Failure` where the property does not hold.
    """

    id: str
    function: str
    dtype: str
    comment: str
    flags: tuple[str, ...]
    holds: Callable[[Asker], None] = field(compare=False)
    topic: str = "properties"


def _host(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    return values.astype("float32" if dtype == "bfloat16" else dtype)


def _of(values: NDArray[Any], floating: str) -> Host:
    """Give an array the dtype that goes with its kind."""
    dtype = {"i": "int64", "b": "bool"}.get(values.dtype.kind, floating)
    return Host(dtype, _host(values, dtype))


def _require(holds: Any, reason: str) -> None:
    if not np.all(holds):
        raise Failure("property", reason)


def _inputs(asker: Asker, seed: int = 0) -> tuple[Floats, NDArray[Any]]:
    """Draw logits that are quarters up to ±8, exact in every dtype, and targets."""
    draw = random.Random(seed)
    logits = np.asarray([[draw.randint(-32, 32) / 4 for _ in range(CLASSES)] for _ in range(ROWS)])
    if asker.function == BINARY:
        hits = [[float(draw.randint(0, 1)) for _ in range(CLASSES)] for _ in range(ROWS)]
        return logits, np.asarray(hits)
    return logits, np.asarray([draw.randrange(CLASSES) for _ in range(ROWS)])


def _relative(asker: Asker, logits: Floats) -> Floats:
    """What two right answers may differ by: each has its row's tolerance and its roundings."""
    own, compute = FORMATS[asker.dtype].eps, COMPUTE[asker.dtype]
    odds = np.max(np.abs(log_odds(logits)), axis=-1, keepdims=True)
    relative = 2.0 * row_tolerance(compute, logits.shape[-1], odds)
    return relative + (2.0 * own if compute != asker.dtype else 0.0)


def _same_bits(first: Floats, second: Floats, what: str) -> None:
    # Converted to float64 without rounding; zeros of either sign are the same number.
    different = int(np.sum((first != second) & ~(np.isnan(first) & np.isnan(second))))
    _require(different == 0, f"{what}: {different} of {first.size} numbers differ")


# The properties


def conventions(asker: Asker) -> None:
    """Library, device, dtype and shape are right under each reduction."""
    logits, targets = _inputs(asker)
    for reduction in ("mean", "sum", "none"):
        for part in asker.parts:
            part(logits, targets, reduction=reduction)


def untouched(asker: Asker) -> None:
    """Logits, targets and the arrays among the options are the same bits afterwards."""
    logits, targets = _inputs(asker)
    for part in asker.parts:
        part(logits, targets)  # what is written to is noticed in `ask`
        part(logits, targets, reduction="none")
        weight = np.full(CLASSES, 0.5)
        try:
            part(logits, targets, weight=weight)
        except NotImplementedError:
            continue


def deterministic(asker: Asker) -> None:
    """Asked twice, the answer has the same bits."""
    logits, targets = _inputs(asker)
    for part in asker.parts:
        _same_bits(part(logits, targets), part(logits, targets), part.__name__)


def nonnegative(asker: Asker) -> None:
    """Losses of ordinary, confident and hopeless rows are at least 0."""
    for seed in range(8):
        logits, targets = _inputs(asker, seed)
        for scale in (0.125, 1.0, 16.0):
            losses = asker.value(scale * logits, targets, reduction="none")
            _require(losses >= 0, f"value: a loss of {np.min(losses)}")


def droppable(asker: Asker) -> None:
    """Rows that do not count are left out, and the others' own answers keep their bits."""
    logits, targets = _inputs(asker)
    keep = np.arange(ROWS) % 3 != 1
    for part in asker.parts:
        if asker.function == BINARY:
            where = np.repeat(keep[:, None], CLASSES, axis=1)
            all_rows = part(logits, targets, where=where, reduction="none")
        else:
            labels = np.where(keep, targets, -100)
            all_rows = part(logits, labels, reduction="none")
        alone = part(logits[keep], targets[keep], reduction="none")
        _same_bits(all_rows[keep], alone, part.__name__)
        _require(all_rows[~keep] == 0, f"{part.__name__}: a row that does not count is not 0")


def offset(asker: Asker) -> None:
    """A constant is added without rounding."""
    logits, labels = _inputs(asker)
    for part in asker.parts:
        near = part(logits, labels, reduction="none")
        for sign in (1.0, -1.0):
            far = part(logits + sign * OFFSETS[asker.dtype], labels, reduction="none")
            slack = np.reshape(_relative(asker, logits), (-1, *[1] * (near.ndim - 1)))
            moved = f"{part.__name__}: an offset of {sign * OFFSETS[asker.dtype]:g} changes it"
            _require(np.abs(far - near) <= slack * np.abs(near), moved)


def one_hot(asker: Asker) -> None:
    """Labels, and the same as rows of probabilities."""
    logits, labels = _inputs(asker)
    rows = np.eye(CLASSES)[labels]
    for part in asker.parts:
        index = part(logits, labels, reduction="none")
        probability = part(logits, rows, reduction="none")
        slack = np.reshape(_relative(asker, logits), (-1, *[1] * (index.ndim - 1)))
        _require(
            np.abs(probability - index) <= slack * np.abs(index),
            f"{part.__name__}: a one-hot row is not its label",
        )


def cotangent(asker: Asker) -> None:
    """The rows' gradients, each times another number, one of them 0 and one negative."""
    logits, targets = _inputs(asker)
    factors = np.asarray([1.0, 0.0, -2.0, 0.5, 4.0, 0.25])
    by_row = factors[:, None] if asker.function != BINARY else np.outer(factors, np.ones(CLASSES))
    upstream = by_row if asker.function == BINARY else factors
    plain = asker.gradient(logits, targets, reduction="none")
    weighted = asker.gradient(logits, targets, reduction="none", cotangent=upstream)
    slack = _relative(asker, logits) * np.abs(by_row * plain)
    # A subnormal number times a factor may be rounded.
    slack = slack + FORMATS[asker.dtype].smallest_normal * FORMATS[asker.dtype].eps
    _require(np.abs(weighted - by_row * plain) <= slack, "gradient: not the weighted rows'")


def gradient_sum(asker: Asker) -> None:
    """No entry of a row's gradient is missing: they add up to 0."""
    logits, labels = _inputs(asker)
    for reduction in ("none", "mean"):
        gradient = asker.gradient(logits, labels, reduction=reduction)
        slack = np.sum(_relative(asker, logits) * np.abs(gradient), axis=-1)
        least = FORMATS[asker.dtype].smallest_normal * FORMATS[asker.dtype].eps * CLASSES
        total = np.abs(np.sum(gradient, axis=-1))
        _require(total <= slack + least, f"gradient: a row adds up to {np.max(total):.3g}")


def symmetry(asker: Asker) -> None:
    """From z = -16 to 16, and beyond; gradients with the other sign."""
    logits = np.arange(-64.0, 65.0) / 4
    logits = np.concatenate([logits, [-100.0, -40.0, 40.0, 100.0]])
    one, zero = np.ones(logits.shape), np.zeros(logits.shape)
    for part, sign in zip((asker.value, asker.gradient), (1.0, -1.0), strict=True):
        if part in asker.parts:
            left = part(logits, one, reduction="none")
            right = part(-logits, zero, reduction="none")
            _same_bits(left, sign * right, part.__name__)


# name -> (property, the flag that explains it); for which functions
_EVERY: dict[str, tuple[Callable[[Asker], None], str]] = {
    "conventions": (conventions, "Dtype"),
    "untouched": (untouched, "Mutation"),
    "deterministic": (deterministic, "Deterministic"),
    "nonnegative": (nonnegative, "NegativeLoss"),
    "droppable": (droppable, "IgnoredRow"),
    "cotangent": (cotangent, "Cotangent"),
}
_SOFTMAX = {
    "offset": (offset, "SharedOffset"),
    "one-hot": (one_hot, "OneHot"),
    "gradient-sum": (gradient_sum, "GradientSum"),
}
_BINARY = {"symmetry": (symmetry, "BinarySymmetry")}


def checks() -> Iterator[Check]:
    """Give every check.

    Yields
    ------
    Check
    """
    for function, short, special in (
        ("cross_entropy", "softmax", _SOFTMAX),
        (BINARY, "binary", _BINARY),
    ):
        for name, (holds, flag) in (_EVERY | special).items():
            comment = (holds.__doc__ or "").rstrip(".")
            for dtype in FORMATS:
                case_id = f"check-{name}-{short}-{dtype}"
                yield Check(case_id, function, dtype, comment, (flag,), holds)
