"""One loss, laid out and ready: value, gradient and curvature, driven by the arrays' backend.

Every public loss builds an `Evaluation` and asks for its value; the functions of
`xp_xent._derivatives` build the same one and ask for more.
"""

from collections.abc import Callable
from functools import partial, wraps
from inspect import signature
from typing import Any, NamedTuple, ParamSpec

from xp_xent import _checks as check
from xp_xent._label_rows import streamed
from xp_xent._layout import Layout
from xp_xent._reduction import Reduction
from xp_xent._rows import Rows
from xp_xent.backends import Backend, get, owner_of

Array = Any
P = ParamSpec("P")


class Evaluation(NamedTuple):
    """A loss of given arrays: a kernel, its rows, and how the rows' losses are reduced.

    `arguments` names the positional arrays, in order: what derivatives are asked by.
    """

    backend: Any
    kernel: Any
    rows: Rows
    layout: Layout
    reduction: Reduction
    arguments: tuple[str, ...] = ("logits", "targets")

    @property
    def stepwise(self) -> bool:
        """Tell if it is computed in steps, each of which would be taken again for a derivative."""
        return False

    @property
    def variables(self) -> tuple[str, ...]:
        """What `value_and_grads` computes the gradient by in the walk that computes the value."""
        return self.arguments[:1]

    def value(self) -> Array:
        """Give the reduced loss."""
        with self.backend.quiet():
            return self._reduced(self._run("value"))

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Give the reduced loss, and its derivative by each of the arguments named."""
        methods, gradients, losses = [self._derivative_by(name) for name in wrt], [], None
        with self.backend.quiet():
            factor = self._factor(cotangent)
            for method in methods:
                losses, gradient = self._run(method, factor)
                gradients.append(self.layout.outward(gradient))
            return self._reduced(losses), tuple(gradients)

    def hvp(self, vector: Array, cotangent: Any = None) -> Array:
        """Give the Hessian of the reduced loss by the logits, times a vector."""
        check.shape("vector", vector, self.layout.outward(self.rows.logits).shape, "the logits'")
        check.floating("vector", vector)
        with self.backend.quiet():
            factor, vector = self._factor(cotangent), self.layout.inward(vector)
            return self.layout.outward(self._run("hvp", factor, vector))

    def hessian_diagonal(self, cotangent: Any = None) -> Array:
        """Give the diagonal of the Hessian of the reduced loss by the logits."""
        with self.backend.quiet():
            factor = self._factor(cotangent)
            return self.layout.outward(self._run("hessian_diagonal", factor))

    def value_gradient_and_curvature(self, bound: bool) -> tuple[Array, Array, Array]:
        """Give the reduced loss, its gradient, and the Hessian's diagonal by the logits.

        Or, as a `bound` in place of the diagonal, the sum of the magnitudes in each of its rows.
        """
        with self.backend.quiet():
            method, factor = "value_gradient_and_curvature", self._factor(None)
            losses, gradient, curvature = self._run(method, factor, bound)
            outward = self.layout.outward
            return self._reduced(losses), outward(gradient), outward(curvature)

    def _run(self, method: str, *others: Array | float) -> Any:
        return run(self.backend, self.kernel, method, self.rows, *others)

    def _reduced(self, losses: Array) -> Array:
        return self.reduction.of(self.backend, self.layout.losses_outward(losses))

    def _factor(self, cotangent: Any) -> Array | float:
        """Give the derivative of the reduced loss by each row's loss, times a cotangent."""
        xp, rows = self.backend.xp, self.rows.logits
        shape = self.layout.losses_shape(rows)
        factor = self.reduction.factor(self.backend, shape, cotangent, self.kernel.dtype)
        if isinstance(factor, (int, float)):
            return factor
        if len(factor.shape) == 0:
            return xp.reshape(factor, (1,) * len(rows.shape))
        return self.layout.cotangent_inward(factor)

    def _derivative_by(self, wrt: str) -> str:
        """Name the kernel's method."""
        if wrt == self.arguments[0]:
            return "value_and_gradient"
        if wrt in self.arguments[1:]:
            targets = self.rows.probabilities
            if targets is None or check.kind(targets) != "floating":
                raise TypeError(f"argnums: got {wrt!r}, but only floating targets have a gradient")
            return "value_and_target_gradient"
        raise ValueError(
            f"argnums: got {wrt!r}, wanted one of {', '.join(map(repr, self.arguments))}"
        )


def run(
    backend: Any,
    kernel: Any,
    method: str,
    rows: Rows,
    *others: Array | float | None,
    logits_needed: bool = True,
) -> Any:
    """Call a kernel's method on the rows and on other arrays beside them, block by block.

    A result may be written over logits that are needed no more, but for rows that stream.
    """
    whole = streamed(kernel, method, rows) if backend.streams(rows.logits) else None
    if whole is not None:
        return getattr(whole, method)(backend, rows, *others)
    count, walk = len(Rows._fields), backend.blockwise if logits_needed else backend.blockwise_

    def on_block(*parts: Array | None) -> Any:
        return getattr(kernel, method)(backend, Rows(*parts[:count]), *parts[count:])

    return walk(on_block, *rows, *others)


def loss(evaluation: Callable[P, Any]) -> Callable[P, Array]:
    """Make a public loss of a function that builds its `Evaluation`."""

    @wraps(evaluation)
    def call(*arrays: P.args, **options: P.kwargs) -> Array:
        return _driver(arrays).value(evaluation, arrays, options)

    call.__annotations__ = evaluation.__annotations__ | {"return": Array}
    call.__signature__ = signature(evaluation).replace(  # type: ignore[attr-defined]
        return_annotation=Array
    )
    call.evaluation = evaluation  # type: ignore[attr-defined]
    return call


def closed_form(
    built: "partial[Any]",
    ask: Callable[..., Any],
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    *more: Any,
) -> Any:
    """Ask what `evaluation_of` gave for a closed form, in the way of the arrays' backend."""
    build, arrays, options = built.func, (*built.args, *arrays), built.keywords | options
    return _driver(arrays).closed_form(build, ask, arrays, options, *more)


def _driver(arrays: tuple[Any, ...]) -> Backend:
    """Give the backend of the first array; NumPy's for what is none, which the loss refuses."""
    return (owner_of(arrays[0]) if arrays else None) or get("numpy")


def evaluation_of(function: Any) -> partial[Any]:
    """Take a public loss, a loss object, or a partial of one, apart: evaluation and options."""
    if isinstance(function, partial):
        inner = evaluation_of(function.func)
        return partial(inner, *function.args, **function.keywords)
    found = getattr(function, "evaluation", None)
    if found is None:
        raise TypeError(
            f"loss: got {function!r}, wanted a loss of xp_xent, for example "
            "xp_xent.cross_entropy; other functions need their library's automatic differentiation"
        )
    return partial(found)
