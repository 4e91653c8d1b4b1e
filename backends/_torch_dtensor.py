"""DTensors: a call's tensors as the parts that this rank has, and its results as DTensors again.

How the logits are placed tells how classes and rows are split; all else is brought beside them. A
plain tensor beside DTensors is taken to be the same on each rank.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

from xp_xent.backends import _split, _torch_call, _torch_parts
from xp_xent.backends._base import Array
from xp_xent.backends._ranks import Ranks
from xp_xent.backends._torch_placed import chunks, part_shapes, refuse_strided

# Options of one number a class, which each rank needs whole; and of one number a row.
BY_CLASS = ("weight", "alpha", "pos_weight")
BY_ROW = ("sample_weight", "where")


def evaluate(loss: Any, ask: Any, arrays: Any, options: dict[str, Any], *more: Any) -> Any:
    """Evaluate a loss of DTensors, or of plain tensors that are parts of larger ones."""
    _torch_call.refuse_transforms()
    first = next((x for x in (*arrays, *options.values()) if isinstance(x, DTensor)), None)
    split = _split.current.get()
    if first is None:
        assert split is not None
        part = _torch_parts.part_of(split)
        call = _torch_call.Call(loss, arrays, options, part.classes, part.rows)
        return _torch_parts.evaluate(call, ask, *more)
    if split is not None:
        raise TypeError("split: got a DTensor, whose placements tell how it is split")
    layout = Layout(loss, arrays, options, first.device_mesh)
    if layout.splits_text:
        return layout.of_split_text(ask, *more)
    return layout.evaluate(ask, *more)


class Layout:
    """How a call's classes and rows lie on a device mesh."""

    def __init__(
        self, loss: Any, arrays: Any, options: dict[str, Any], mesh: Any, called: str = ""
    ) -> None:
        self.loss, self.mesh, self.options, self.called = loss, mesh, dict(options), called
        self.arrays = tuple([self._distributed(x) for x in arrays])
        _torch_call.refuse_misfits(loss, self.arrays, options)
        call = _torch_call.Call(loss, self.arrays, options, None, None)
        lead, self.is_linear = self.arrays[0], call.is_linear
        ndim, axis = lead.ndim, call.class_axis
        self.axis: Any = None if axis is None else axis % ndim
        # The dimension of the mesh → the axis of the logits, or the features, that it splits.
        self.split = {}
        for dim, placement in enumerate(lead.placements):
            if isinstance(placement, Shard):
                refuse_strided(placement)
                self.split[dim] = placement.dim % ndim
        self.class_dims = [dim for dim, at in self.split.items() if at == self.axis]
        if self.is_linear:
            for dim in self.class_dims:  # features are needed whole
                del self.split[dim]
            self.class_dims = []
            for dim, placement in enumerate(self.arrays[1].placements):
                if isinstance(placement, Shard) and placement.dim % 2 == 0:
                    self.class_dims.append(dim)
                    self.split.pop(dim, None)
        self.row_dims = [dim for dim in self.split if dim not in self.class_dims]
        self.shape = tuple(lead.shape)

    @property
    def splits_text(self) -> bool:
        """Whether the positions of a text whose next tokens are scored lie with several ranks."""
        scores = "tokens" in self.loss.arguments or self.options.get("shift")
        return bool(scores) and len(self.shape) - 2 in self.split.values()

    def evaluate(self, ask: Any, *more: Any) -> Any:
        """Evaluate the loss on what is here."""
        arrays = [self._local_argument(at, x) for at, x in enumerate(self.arrays)]
        options = {name: self._local_option(name, x) for name, x in self.options.items()}
        more = tuple([self._local_more(ask, x) for x in more])
        classes = rows = None
        if self.class_dims:
            count = self._length(len(self.shape) - 1 if self.axis is None else self.axis)
            sizes = [self.mesh.size(dim) for dim in self.class_dims]
            classes = self._ranks(self.class_dims, chunks(count, sizes))
        if self.row_dims:
            rows = self._ranks(self.row_dims, [math.prod(shape) for shape in self._row_shapes()])
        offset = tuple([self._offset(at) for at in self._row_axes()])
        call = _torch_call.Call(
            self.loss, tuple(arrays), options, classes, rows, offset, self.called
        )
        found = _torch_parts.evaluate(call, ask, *more)
        return self._wrapped(ask, found)

    def _ranks(self, dims: Sequence[int], lengths: Sequence[int]) -> Ranks:
        return Ranks([self.mesh.get_group(dim) for dim in dims], lengths)

    # Lengths of parts

    def _row_axes(self) -> list[int]:
        axis = len(self.shape) - 1 if self.is_linear else self.axis
        return [at for at in range(len(self.shape)) if at != axis]

    def _row_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of all parts of the rows, in the order of their ranks."""
        shape = {at: self.shape[at] for at in self._row_axes()}
        return part_shapes(shape, {dim: self.split[dim] for dim in self.row_dims}, self.mesh)

    def _offset(self, axis: int) -> int:
        """Return where along an axis this rank's part starts."""
        size, start = self.shape[axis], 0
        for dim in self.row_dims:
            if self.split[dim] == axis:
                parts, at = chunks(size, [self.mesh.size(dim)]), self.mesh.get_local_rank(dim)
                start, size = start + sum(parts[:at]), parts[at]
        return start

    # What is here of a tensor

    def _distributed(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if isinstance(x, DTensor):
            if x.device_mesh != self.mesh:
                raise ValueError("got DTensors of several device meshes, wanted those of one")
            return x
        everywhere = [Replicate()] * self.mesh.ndim
        return DTensor.from_local(x, self.mesh, everywhere, run_check=False)

    def _local(self, x: Any, axes: dict[int, int]) -> Any:
        """Return the part of a tensor whose axes these dimensions of the mesh split."""
        x = self._distributed(x)
        if not isinstance(x, DTensor):
            return x
        wanted = [Shard(axes[dim]) if dim in axes else Replicate() for dim in range(self.mesh.ndim)]
        if tuple(x.placements) != tuple(wanted):
            x = x.redistribute(placements=wanted)
        return x.to_local(grad_placements=wanted)

    def _like_logits(self) -> dict[int, int]:
        return dict(self.split)

    def _like_rows(self) -> dict[int, int]:
        """Return which axes of one number a row are split."""
        axis = math.inf if self.axis is None or self.is_linear else self.axis
        return {dim: self.split[dim] - (self.split[dim] > axis) for dim in self.row_dims}

    def _aligned(self, shape: Sequence[int]) -> dict[int, int]:
        """Return which axes of an array are split that broadcasts to the logits.

        A length of 1 beside a longer one is the same everywhere.
        """
        shift, found = len(self.shape) - len(shape), {}
        of = {**self.split, **dict.fromkeys(self.class_dims, len(self.shape) - 1)}
        for dim, at in (of if self.is_linear else self.split).items():
            if at - shift >= 0 and shape[at - shift] == self._length(at):
                found[dim] = at - shift
        return found

    def _length(self, axis: int) -> int:
        """Return the length of an axis of the logits."""
        classes = self.is_linear and axis == len(self.shape) - 1
        return int(self.arrays[1].shape[0] if classes else self.shape[axis])

    def _rows_shape(self) -> tuple[int, ...]:
        return tuple([self.shape[at] for at in self._row_axes()])

    def _local_argument(self, at: int, x: Any) -> Any:
        if at == 0:
            return self._local(x, self._like_logits())
        if self.is_linear and at == 1:
            return self._local(x, dict.fromkeys(self.class_dims, 0))
        if not hasattr(x, "shape"):
            return x
        is_labels = tuple(x.shape) == self._rows_shape()
        return self._local(x, self._like_rows() if is_labels else self._aligned(x.shape))

    def _local_option(self, name: str, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if name == "bias":
            return self._local(x, dict.fromkeys(self.class_dims, 0))
        if name in BY_ROW:
            return self._local(x, self._like_rows())
        of_classes = name in BY_CLASS and self.axis is not None
        return self._local(x, {} if of_classes else self._aligned(x.shape))

    def _local_more(self, ask: Any, x: Any) -> Any:
        if isinstance(x, tuple):
            raise TypeError("out: got a call of DTensors, whose results are made; leave out= away")
        if not isinstance(x, torch.Tensor):
            return x
        if ask.method == "hvp":
            return self._local(x, self._like_logits())
        return self._local(x, self._like_rows() if x.ndim else {})

    # Results

    def _whole(self, x: Any, axes: dict[int, int], shape: Sequence[int]) -> Any:
        if x is None:
            return None
        placements = [
            Shard(axes[dim]) if dim in axes else Replicate() for dim in range(self.mesh.ndim)
        ]
        size = torch.Size(shape)
        stride = tuple([math.prod(size[at + 1 :]) for at in range(len(size))])
        return DTensor.from_local(
            x, self.mesh, placements, run_check=False, shape=size, stride=stride
        )

    def _losses(self, x: Any) -> Any:
        """Return losses, reduced or one a row, as a DTensor; or statistics beside one."""
        if isinstance(x, tuple):
            loss, stats = x
            by_row = [self._by_row(one) for one in stats[:3]]
            return self.loss.with_stats(self._losses(loss), *by_row, self._whole(stats[3], {}, ()))
        return self._by_row(x) if self.options["reduction"] == "none" else self._whole(x, {}, ())

    def _by_row(self, x: Array) -> Any:
        shape = list(self._rows_shape())
        if shape:  # next tokens have a loss less than there are positions
            shape[-1] -= ("tokens" in self.loss.arguments or bool(self.options.get("shift"))) and (
                shape[-1] > 0
            )
        return self._whole(x, self._like_rows(), shape)

    def _wrapped(self, ask: Any, found: Any) -> Any:
        if ask is None:
            return self._losses(found)
        if ask.method == "value_and_grads":
            value, gradients = found
            names = ask.arguments[0]
            made = tuple(map(self._gradient, names, gradients))
            return self._losses(value), made
        if isinstance(found, tuple):
            return self._losses(found[0]), *(self._gradient(None, x) for x in found[1:])
        if ask.method == "hessian":
            return self._whole(found, self._like_rows(), (*self._rows_shape(), *found.shape[-2:]))
        return self._gradient(None, found)

    def _gradient(self, name: str | None, x: Any) -> Any:
        if name == "temperature":
            return self._by_row(x) if x.ndim else self._whole(x, {}, ())
        if name is None or name == self.loss.arguments[0]:
            return self._whole(x, self._like_logits(), self.shape)
        if name in ("classifier", "bias"):
            of = self.options[name] if name == "bias" else self.arrays[1]
            return self._whole(x, dict.fromkeys(self.class_dims, 0), of.shape)
        of = self.arrays[self.loss.arguments.index(name)]
        return self._whole(x, self._aligned(of.shape), of.shape)

    # Texts whose positions lie with several ranks

    def of_split_text(self, ask: Any, *more: Any) -> Any:
        """Evaluate the loss as a cross-entropy with tokens that are shifted here.

        They are small, and gathered.
        """
        from xp_xent import cross_entropy

        *logits, tokens = self.arrays
        options, length = dict(self.options), tokens.shape[-1]

        def following(x: Any) -> Any:
            return None if x is None else self._local(x, {}).roll(-1, -1)

        tokens = following(tokens)
        predicts = (torch.arange(length, device=tokens.device) < length - 1).expand(tokens.shape)
        if options.get("where") is not None:
            predicts = predicts & (following(options["where"]) != 0)
        options |= {"where": predicts, "sample_weight": following(options["sample_weight"])}
        if options["reduction"] == "none" and ask is not None and ask.method == "value_and_grads":
            raise TypeError(
                "reduction: got 'none' with a derivative of next tokens' losses whose positions "
                "lie with several ranks; wanted 'mean' or 'sum'"
            )
        loss: Any = self.loss if self.is_linear else cross_entropy.loss  # type: ignore[attr-defined]
        options |= {"shift": False} if self.is_linear else {"axis": -1}
        given = (*logits, tokens), options, self.mesh, self.loss.labels
        found = Layout(loss, *given).evaluate(ask, *more)
        if ask is not None or not (options["return_stats"] or options["reduction"] == "none"):
            return found
        stats = found[1] if options["return_stats"] else None
        found = found[0] if options["return_stats"] else found
        found = _without_last(found) if options["reduction"] == "none" else found
        if stats is None:
            return found
        return self.loss.with_stats(found, *map(_without_last, stats[:3]), stats[3])


def _without_last(x: DTensor) -> DTensor:
    """Return one number a position without the last, everywhere."""
    everywhere = [Replicate()] * x.device_mesh.ndim
    return x.redistribute(placements=everywhere)[..., :-1]
