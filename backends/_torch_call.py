"""A call of a loss on what a rank has, and what the ranks agree on before anything else.

On the CPU, or where lengths are not known, they exchange seven integers each: so all refuse
together what one of them refuses.
"""

import math
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from xp_xent.backends import _split, _torch_memory
from xp_xent.backends._base import Array
from xp_xent.backends._ranks import Ranks

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


class Call(NamedTuple):
    """One call of a loss on a rank's own tensors."""

    loss: Any
    arrays: tuple[Any, ...]
    options: dict[str, Any]
    classes: Ranks | None
    rows: Ranks | None
    offset: tuple[int, ...] = ()  # of this rank's first row among all, where it is known
    called: str = ""  # the argument that labels are of, where they were shifted before the call

    @property
    def is_linear(self) -> bool:
        """Whether the logits are yet to be computed from features and a classifier."""
        return "classifier" in self.loss.arguments

    @property
    def class_axis(self) -> int | None:
        """The axis of the classes in the logits; None where elements stand alone."""
        if self.is_linear or "tokens" in self.loss.arguments:
            return -1
        return self.options.get("axis")

    def rows_shape(self) -> tuple[int, ...]:
        """Return the shape of the rows that are here."""
        shape, axis = list(self.arrays[0].shape), self.class_axis
        if axis is not None:
            del shape[axis]
        return tuple(shape)

    def classes_here(self) -> int:
        """Count the classes that are here."""
        axis = self.class_axis
        if self.is_linear:
            return int(self.arrays[1].shape[0])
        return 1 if axis is None else int(self.arrays[0].shape[axis])

    def labels(self) -> Array | None:
        """Return the targets, if they are labels."""
        place = self.loss.arguments.index(self.loss.labels) if self.loss.labels else None
        targets = None if place is None or self.class_axis is None else self.arrays[place]
        if not isinstance(targets, torch.Tensor) or _floating(targets):
            return None
        # PyTorch compares no unsigned integers of more than a byte.
        return targets.long() if targets.dtype in _UNSIGNED else targets

    def differentiated(self) -> dict[int | str, Array]:
        """Return the tensors that autograd differentiates by, by position or name."""
        given: tuple[tuple[Any, Any], ...] = (*enumerate(self.arrays), *self.options.items())
        tensors = {place: x for place, x in given if isinstance(x, torch.Tensor)}
        recorded = torch.is_grad_enabled()
        return {place: x for place, x in tensors.items() if recorded and x.requires_grad}


def refuse_misfits(loss: Any, arrays: Any, options: dict[str, Any]) -> None:
    """Raise on all ranks alike, before they exchange anything, what the whole call is refused for.

    A part of it may pass where another's does not.
    """

    def meta(x: Any) -> Any:
        is_tensor = isinstance(x, torch.Tensor)
        return torch.empty(x.shape, dtype=x.dtype, device="meta") if is_tensor else x

    with _split.within(None):
        loss.validate(tuple(map(meta, arrays)), {name: meta(x) for name, x in options.items()})


def refuse_transforms() -> None:
    """Raise, before anything is exchanged, where a transform would have to look into it."""
    if torch.compiler.is_compiling():
        return
    in_transform = torch._C._functorch.peek_interpreter_stack() is not None
    if in_transform or torch.autograd.forward_ad._current_level >= 0:
        raise TypeError(
            "split: got a call within a transform of torch.func or forward-mode differentiation, "
            "which do not see what ranks exchange; wanted backward(), or value_and_grad, hvp "
            "and hessian_diagonal of xp_xent"
        )


def agreed(call: Call, ask: Any) -> Call:
    """Return the call with lengths of all parts; raise on all ranks what one of them refuses.

    Where lengths are known and values cannot be read without waiting, nothing is asked.
    """
    classes, rows, labels = call.classes, call.rows, call.labels()
    known = all(x is None or x.lengths is not None for x in (classes, rows))
    on_host = call.arrays[0].device.type == "cpu"
    if known and not on_host:
        return call
    low, high = (0, 0) if labels is None or not on_host else _limits(call, labels)
    by = sorted(map(str, call.differentiated())) if ask is None else []
    given = (*enumerate(call.arrays), *sorted(call.options.items()))
    said = signature((call.loss.function.__name__, ask, by), given)
    own = [said, call.classes_here(), math.prod(call.rows_shape()), low, high]
    own.append(0 if labels is None or not on_host else _checksum(labels))
    refusal = _refusal(call) if on_host and call.class_axis is None else None
    own.append(int(refusal is not None))
    table = torch.tensor(own, device=call.arrays[0].device)
    for ranks in (classes, rows):
        if ranks is not None:
            table = torch.stack(ranks.gather(table)[0])
    # By ranks of rows, then of classes.
    size = 1 if classes is None else classes.size
    found = np.asarray(table.cpu()).reshape(-1, size, len(own))
    same("call", found[..., 0])
    if found[..., 6].any():
        part = int(found[:, 0, 6].argmax())
        raise refusal or ValueError(f"split: part {part} of the rows is refused; it says why")
    if classes is not None and classes.lengths is None:
        classes = classes.of_lengths(found[0, :, 1].tolist())
    same("number of rows", found[..., 2] - found[:, :1, 2])
    same("labels of rows whose classes are split", found[..., 5] - found[:, :1, 5])
    if rows is not None and rows.lengths is None:
        rows = rows.of_lengths(found[:, 0, 2].tolist())
    call = call._replace(classes=classes, rows=rows)
    here = call.classes_here()
    count = here if classes is None else classes.count(here)
    if found[..., 3].min() < 0 or found[..., 4].max() >= count:
        _refuse_labels(call, labels, count)
    return call


def _refusal(call: Call) -> Exception | None:
    """Return why elements that are here are refused by their values, or None."""
    loss, (arrays, options) = call.loss, (call.arrays, call.options)
    try:
        with _split.within(None), torch.no_grad():
            loss.evaluation(arrays, options)
    except (TypeError, ValueError) as error:
        return error
    return None


def same(what: str, found: Any) -> None:
    """Raise on all ranks, which have gathered it, where something is not the same on each."""
    if (found != found.flat[0]).any():
        raise RuntimeError(
            f"split: the ranks disagree about the {what}; wanted the same function with the same "
            "options, dtypes, numbers of axes and tensors that require grad on each rank, and the "
            "same rows beside each part of the classes"
        )


def signature(said: Iterable[Any], given: Iterable[tuple[Any, Any]]) -> int:
    """Return a number that tells calls apart by what is said of them and given to them."""
    lines = [repr(x) for x in said]
    for name, x in given:
        is_array = hasattr(x, "dtype") and hasattr(x, "shape")
        lines.append(f"{name} {(str(x.dtype), len(x.shape)) if is_array else x!r}")
    return zlib.crc32("\n".join(lines).encode())


def _checksum(labels: Array) -> int:
    return zlib.crc32(_torch_memory.copied(labels.contiguous()).tobytes())


def _limits(call: Call, labels: Array) -> tuple[int, int]:
    """Return the least and the largest of the labels that count."""
    counted = labels[_counted(call, labels)]
    return (int(counted.min()), int(counted.max())) if counted.numel() else (0, 0)


def _counted(call: Call, labels: Array) -> Array:
    counted = torch.ones_like(labels, dtype=torch.bool)
    ignored, where = call.options.get("ignore_index"), call.options.get("where")
    if ignored is not None:
        counted &= labels != ignored
    if isinstance(where, torch.Tensor) and where.shape == labels.shape:
        counted &= where != 0
    if "tokens" in call.loss.arguments or call.options.get("shift"):
        counted[..., :1] = False  # the first token is not predicted
    return counted


def _refuse_labels(call: Call, labels: Any, count: int) -> None:
    """Raise on each rank what the first one that has a label out of range found."""
    bad = (labels < 0) | (labels >= count)
    places = (bad & _counted(call, labels)).nonzero()
    offset = call.offset or (0,) * labels.ndim
    mine = [-1] * (labels.ndim + 2)
    if len(places):
        first = places[0].tolist()
        mine = [0, int(labels[tuple(first)]), *map(sum, zip(first, offset, strict=True))]
    table = torch.tensor(mine)
    for ranks in (call.classes, call.rows):
        if ranks is not None:
            table = torch.stack(ranks.gather(table)[0])
    rows = table.reshape(-1, 1 if call.classes is None else call.classes.size, len(mine))[:, 0]
    rank = int((rows[:, 0] == 0).nonzero()[0])
    _, value, *position = rows[rank].tolist()
    if call.called:  # the label of a position is the token after it
        position[-1] += 1
    of = "" if call.offset or call.rows is None else f" of part {rank} of the rows"
    raise ValueError(
        f"{call.called or call.loss.labels}: got label {value} at position {tuple(position)}{of}, "
        f"wanted 0 … {count - 1} (classes along the class axis) or "
        f"ignore_index={call.options.get('ignore_index')}"
    )


def _floating(x: Array) -> bool:
    return bool(x.dtype.is_floating_point)
