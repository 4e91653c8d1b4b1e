"""Checked arrays of a softmax loss: whose they are, where the classes are, what the options say."""

from typing import Any, NamedTuple

from xp_xent import _checks as check
from xp_xent._layout import Layout
from xp_xent.backends import dtype_name

Array = Any


def loss_dtype(xp: Any, logits: Array) -> Any:
    """Give the dtype in which a loss of these logits is computed and returned."""
    return xp.float32 if dtype_name(logits.dtype) in ("float16", "bfloat16") else logits.dtype


class RowOptions(NamedTuple):
    """What cross_entropy and its relatives accept beside logits and targets."""

    weight: Array | None = None
    sample_weight: Array | None = None
    where: Array | None = None
    ignore_index: int | None = None
    reduction: str = "mean"
    normalizer: Any = None
    shifted: bool = False  # labels are those of the next position, as the user counts
    alpha: Array | None = None  # class weights without a share in the mean's denominator

    def arrays(self) -> dict[str, Array]:
        """Name the arrays among the options."""
        given = {
            "weight": self.weight,
            "alpha": self.alpha,
            "sample_weight": self.sample_weight,
            "where": self.where,
            "normalizer": None if check.is_number(self.normalizer) else self.normalizer,
        }
        return {name: x for name, x in given.items() if x is not None}


class RowProblem(NamedTuple):
    """Checked arrays of a softmax loss: which `_targets` turns into `Rows`."""

    backend: Any
    layout: Layout
    like: Array  # the user's first array, for library, device and dtype
    shape: tuple[int, ...]  # of the logits as the user has them
    rows_shape: tuple[int, ...]
    classes: int
    dtype: Any
    options: RowOptions
    names: tuple[str, ...]  # what the user's arrays are called

    @property
    def logits(self) -> Array:
        """View the logits as (..., K), where they are the first array."""
        return self.layout.inward(self.like)

    def one_row(self) -> tuple[int, ...]:
        """Give the shape (1, …, K)."""
        shape = [1] * len(self.shape)
        shape[self.backend.axis] = self.classes
        return tuple(shape)

    def column(self, array: Array | None) -> Array | None:
        """View one number a row as (..., 1)."""
        return None if array is None else self.layout.column(array)

    def class_row(self, weight: Array | None) -> Array | None:
        """View class weights as (1, …, K), in the loss's dtype."""
        if weight is None:
            return None
        xp = self.backend.xp
        weight = self.backend.cast(weight, self.dtype)
        return xp.reshape(weight, self.one_row())


def open_problem(
    arrays: dict[str, Array],
    axis: int,
    options: RowOptions,
    names: tuple[str, ...] | None = None,
    classes: int | None = None,
) -> RowProblem:
    """Check everything but the targets' own shape and values.

    `arrays` are the positional ones by name, the logits first; or, with a number of classes,
    features (..., D) that the logits are yet to be computed from.
    """
    named = arrays | options.arrays()
    name, like = next(iter(arrays.items()))
    backend = check.together(**named)
    check.floating(name, like)
    shape = tuple(like.shape) if classes is None else (*like.shape[:-1], classes)
    place = check.axis(axis, shape)
    backend = backend.along(place - len(shape))
    problem = RowProblem(
        backend,
        Layout(backend.xp, place, backend.axis),
        like,
        shape,
        shape[:place] + shape[place + 1 :],
        shape[place],
        loss_dtype(backend.xp, like),
        options,
        (*arrays,) if names is None else names,
    )
    if options.ignore_index is not None:
        check.integer("ignore_index", options.ignore_index, "an integer, or None for no such label")
    if len(named) == len(arrays):
        return problem
    of = "the logits' without the class axis"
    for name, per_class in (("weight", options.weight), ("alpha", options.alpha)):
        if per_class is not None:
            check.numeric(name, per_class)
            check.shape(name, per_class, (problem.classes,), "one number a class")
    if options.sample_weight is not None:
        check.numeric("sample_weight", options.sample_weight)
        check.shape("sample_weight", options.sample_weight, problem.rows_shape, of)
    if options.where is not None:
        check.boolean("where", options.where)
        check.shape("where", options.where, problem.rows_shape, of)
    return problem
