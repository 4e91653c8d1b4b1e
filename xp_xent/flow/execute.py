"""An evaluation: a kernel run over rows, block by block, and the rows' losses reduced."""

import math
from functools import partial
from numbers import Real
from operator import truediv
from typing import Any, NamedTuple

from xp_xent.backends import known_types, owner_of
from xp_xent.flow import checks as check
from xp_xent.flow.plan import Loss
from xp_xent.kernels.rows import Rows

Array = Any


class Reduction(NamedTuple):
    """How losses of rows become a result."""

    kind: str  # "mean", "sum" or "none"
    shape: tuple[int, ...]  # of the losses
    weight: Array | None  # (), what all rows add to the mean's denominator
    normalizer: Any  # replaces that denominator
    count: Any  # of the losses
    rate: float | None  # the derivative by each row's loss, where it is one number known now

    @staticmethod
    def of(plan: Any, options: dict[str, Any], weight: Array | None = None) -> "Reduction":
        """Make it of a loss's options, and refuse their values."""
        kind, shape = options["reduction"], plan.losses_shape()
        normalizer = options.get("normalizer")
        if normalizer is not None and check.is_number(normalizer):
            normalizer = check.number("normalizer", normalizer)
            if normalizer == 0:
                raise ValueError("normalizer: got 0, wanted what to divide the sum of losses by")
        # Where a length is not known yet, the weights count the rows.
        count = plan.backend._row_count(shape)
        rate = 1.0 if kind != "mean" else None
        if kind == "mean" and weight is None and normalizer is None and type(count) is float:
            rate = 1.0 / count if count else math.nan
        # Once, for value and gradient: rows may lie in several places.
        is_used = kind == "mean" and weight is not None and normalizer is None
        weight = plan.backend.total(weight) if is_used else None
        return Reduction(kind, shape, weight, normalizer, count, rate)

    def reduce(self, backend: Any, losses: Array) -> Array:
        """Reduce losses of rows (...,)."""
        if self.kind == "none":
            return losses
        total = backend.total(losses)
        if self.kind == "sum":
            return total
        if self.weight is None and self.normalizer is None:
            return quotient(backend, total, self.count)
        return quotient(backend, total, self._denominator(backend, losses.dtype))

    def factor(self, backend: Any, cotangent: Any, dtype: Any) -> Array | float:
        """Return cotangent · ∂result/∂loss of a row: an array (...,) or (), or a number."""
        if cotangent is None:
            cotangent = 1.0
        elif isinstance(cotangent, Real):
            cotangent = check.number("cotangent", cotangent)
        else:
            wanted = self.shape if self.kind == "none" else ()
            check.shape("cotangent", cotangent, wanted, "the shape of the loss")
            check.floating("cotangent", cotangent)
            cotangent = backend.cast(cotangent, dtype)
        if self.kind != "mean":
            return cotangent
        denominator = self._denominator(backend, dtype)
        if isinstance(denominator, float) and denominator == 0:
            return math.nan
        return quotient(backend, cotangent, denominator)

    def _denominator(self, backend: Any, dtype: Any) -> Array | float:
        normalizer = self.normalizer
        if normalizer is None:
            return self.count if self.weight is None else self.weight
        return normalizer if check.is_number(normalizer) else backend.cast(normalizer, dtype)


def quotient(backend: Any, x: Any, denominator: Any) -> Any:
    """Divide a sum of losses, or a cotangent, by the mean's denominator; each may be a number."""
    known, xp = not hasattr(denominator, "dtype"), backend.xp
    if (known and not hasattr(x, "dtype")) or not backend.differentiable:
        return (backend._quotient or truediv)(x, denominator)
    if known:
        # Forward mode may give a number () over Python's a tangent in float64; not one in a row.
        return xp.reshape(xp.reshape(x, (1,)) / denominator, ())

    def divided(denominator: Array, x: Any) -> Array:
        return x / denominator

    def differentiable_form(denominator: Array, x: Any) -> Array:
        # A derivative may square the denominator, so it gets one near 1.
        scale = backend.stop_gradient(1 / denominator)
        scale = xp.where((scale == 0) | ~xp.isfinite(scale), 1.0, scale)
        return (x * scale) / (denominator * scale)

    forms = divided, differentiable_form
    if hasattr(x, "dtype"):
        return backend.custom_derivative(*forms, denominator, x)
    # Only a number may be closed over, nothing traced.
    return backend.custom_derivative(*(partial(form, x=x) for form in forms), denominator)


class Evaluation(NamedTuple):
    """A loss of given arrays: a plan, a kernel, its rows, and how the rows' losses are reduced."""

    plan: Any
    kernel: Any
    rows: Rows
    reduction: Reduction

    def value(self) -> Array:
        """Compute the reduced loss."""
        return self._reduced(run(self, "value"))

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None, out: tuple[Array | None, ...] = ()
    ) -> tuple[Any, tuple[Array | None, ...]]:
        """Compute the reduced loss, and its derivative by each of the arguments named.

        A derivative is None where it was written into its array of `out`.
        """
        plan = self.plan
        factor = self.reduction.rate if cotangent is None else None
        factor = self._factor(cotangent) if factor is None else factor
        if not out and wrt == plan.names[:1]:
            *values, gradient = run(self, "value_and_gradient", factor)
            gradient = plan.to_user(gradient) if plan.moves_axis else gradient
            return self._reduced(*values), (gradient,)
        methods = [self._derivative_by(name) for name in wrt]
        metrics: list[Array] = []
        gradients = []
        for name, method, given in zip(wrt, methods, out or (None,) * len(wrt), strict=True):
            target = None if given is None else plan.to_kernel(given)
            losses, *found, gradient = run(self, method, factor, out=target)
            metrics = metrics or found
            if name == "temperature":
                gradients.append(self._summed(gradient))
            elif target is None:
                gradients.append(plan.to_user(gradient))
            else:
                gradients.append(fill(target, gradient))
        return self._reduced(losses, *metrics), tuple(gradients)

    def hvp(self, vector: Array, cotangent: Any = None) -> Array:
        """Compute the Hessian of the reduced loss by the logits, times a vector."""
        plan = self.plan
        check.shape("vector", vector, plan.to_user(self.rows.logits).shape, "the logits'")
        check.floating("vector", vector)
        return plan.to_user(run(self, "hvp", self._factor(cotangent), plan.to_kernel(vector)))

    def hessian_diagonal(self, cotangent: Any = None) -> Array:
        """Compute the diagonal of the Hessian of the reduced loss by the logits."""
        return self.plan.to_user(run(self, "hessian_diagonal", self._factor(cotangent)))

    def hessian(self, cotangent: Any = None) -> Array:
        """Compute each row's Hessian by its logits, the two class axes last."""
        if not hasattr(self.kernel, "hessian"):
            raise check.no_matrix("whose elements stand alone")
        plan, kernel, count = self.plan, self.kernel, len(self.rows)
        if not plan.backend._has_whole_rows(plan.classes_here):
            raise check.no_whole_rows()
        axis, backend = plan.backend.class_axis, plan.backend.with_class_axis(-1)
        operands = (*self.rows, self._factor(cotangent))
        arrays = [_classes_last(backend, x, axis) for x in operands]

        def on_block(*parts: Any) -> Array:
            return kernel.hessian(backend, Rows(*parts[:count]), parts[count])

        matrices = backend.map_blocks(on_block, *arrays)
        return backend._reshape(matrices, (*matrices.shape[:-1], plan.classes, plan.classes))

    def value_gradient_and_curvature(self, bound: bool) -> tuple[Array, Array, Array]:
        """Compute the reduced loss, its gradient, and the Hessian's diagonal by the logits.

        Or, as a `bound` in place of the diagonal, the sum of the magnitudes in each of its rows.
        """
        if bound and (why := getattr(self.kernel, "unbounded", None)):
            raise check.no_row_sums(why)
        method, to_user = "value_gradient_and_curvature", self.plan.to_user
        losses, gradient, curvature = run(self, method, self._factor(None), bound)
        return self._reduced(losses), to_user(gradient), to_user(curvature)

    def _reduced(self, losses: Array, *_: Array) -> Any:
        return self.reduction.reduce(self.plan.backend, self.plan.from_column(losses))

    def _summed(self, by_row: Array) -> Array:
        """Sum a derivative by a number over the rows; one a row where there is a loss a row."""
        found = self.plan.from_column(by_row)
        return found if self.reduction.kind == "none" else self.plan.backend.total(found)

    def _factor(self, cotangent: Any) -> Array | float:
        """Return the derivative of the reduced loss by each row's loss, times a cotangent."""
        plan, ndim = self.plan, len(self.rows.logits.shape)
        factor = self.reduction.factor(plan.backend, cotangent, self.kernel.dtype)
        if isinstance(factor, (int, float)):
            return factor
        if len(factor.shape) == 0:
            return plan.backend.xp.reshape(factor, (1,) * ndim)
        return plan.cotangent_to_column(factor)

    def _derivative_by(self, wrt: str) -> str:
        """Return the name of the kernel's method."""
        names = self.plan.names
        if wrt == names[0]:
            return "value_and_gradient"
        if wrt in names[1:]:
            targets = self.rows.probabilities
            if targets is None or check.kind(targets) != "floating":
                raise TypeError(f"argnums: got {wrt!r}, but only floating targets have a gradient")
            return "value_and_target_gradient"
        if wrt == "temperature" and hasattr(self.kernel, "value_and_temperature_gradient"):
            return "value_and_temperature_gradient"
        raise ValueError(f"argnums: got {wrt!r}, wanted one of {', '.join(map(repr, names))}")


def _classes_last(backend: Any, x: Any, axis: int) -> Any:
    """Bring the class axis, counted from the end, of an operand of rows to the end."""
    if axis == -1 or not getattr(x, "shape", ()):
        return x
    ndim = len(x.shape)
    others = [at for at in range(ndim) if at != axis % ndim]
    return backend.xp.permute_dims(x, (*others, axis % ndim))


def fill(target: Array, gradient: Array) -> Array | None:
    """Copy a gradient to where it was asked for, unless it was written there block by block."""
    if gradient is not target:
        target[...] = gradient
    return None


def run(
    evaluation: Any,
    method: str,
    *others: Any,
    rows: Any = None,
    overwrite: bool = False,
    out: Array | None = None,
) -> Any:
    """Call the kernel's method on rows, the evaluation's if not given, block by block.

    With `overwrite` a result may be written over the logits, which are needed no more; into `out`
    the last result may be, which then is returned for it.
    """
    rows = evaluation.rows if rows is None else rows
    count, kernel, backend = len(rows), evaluation.kernel, evaluation.plan.backend
    call = getattr(kernel, method)

    def on_block(*parts: Any) -> Any:
        return call(backend, Rows(*parts[:count]), *parts[count:])

    plain = rows.label is not None and rows.smoothing_mass is None and rows.class_valid is None
    whole = plain and method in kernel.by_sums
    how: dict[str, Any] = {} if out is None else {"out": out}  # not every adapter knows of it
    return backend.map_blocks(on_block, *rows, *others, overwrite=overwrite, whole=whole, **how)


def compute(
    loss: Loss, ask: Any, arrays: tuple[Array, ...], options: dict[str, Any], *more: Any
) -> Any:
    """Ask a loss for its value (None), or for something else, in the way of the arrays' library."""
    first, kind = arrays[0], type(arrays[0])
    owner = known_types[kind] if kind in known_types else owner_of(first)
    if owner is not None and owner.evaluate is not None:
        arrays, options = loss.placed(arrays, options)
        return owner.evaluate(loss, ask, arrays, options, *more)
    return loss.run(ask, arrays, options, *more)
