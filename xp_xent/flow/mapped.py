"""The way of a call of a map: validate, prepare, walk over rows, and back to the user's axes."""

from collections.abc import Callable
from typing import Any

from xp_xent.backends import Backend, backend_of
from xp_xent.flow import checks as check
from xp_xent.flow.element_plan import ElementPlan
from xp_xent.flow.folded import Folded
from xp_xent.flow.options import TEMPERATURE, masks, numbers
from xp_xent.flow.placement import placed
from xp_xent.flow.plan import RowPlan, no_warnings
from xp_xent.flow.validate import arrays_of, common_backend, loss_dtype

Array = Any
Results = tuple[Array, ...]


def map_elements(x: Array, function: Callable[[Backend, Array], Array]) -> Array:
    """Apply a function of elements in the dtype of a loss, and round the result once."""
    backend: Backend = backend_of(x=x)
    if (apply := backend._mapped.get(type(x))) is not None:
        return apply(x, (), {}, lambda x, _: map_elements(x, function))
    check.floating("x", x)
    shape, dtype, given_dtype = tuple(x.shape), loss_dtype(backend.xp, x), x.dtype
    plan = ElementPlan(backend, len(shape), (*shape, 1), dtype, ("x",))

    def on_block(rows: Array) -> Array:
        return backend.cast(function(backend, backend.kernel_layout(rows, dtype)), given_dtype)

    with no_warnings(backend):
        return plan.to_user(backend.map_blocks(on_block, plan.to_kernel(x)))


def map_rows(
    function: Callable[..., Results],
    x: Array,
    axis: Any,
    *,
    keepdims: bool | None = None,
    **options: Any,
) -> Results:
    """Apply a function of rows (..., K) over axes, in the dtype of a loss; round results once.

    It is called with the adapter, the rows and the options `where`, `b` and `temperature` in this
    order, arrays laid out beside the rows. With `keepdims` its results are numbers of rows, else
    they have the rows' shape.
    """
    backend: Backend = backend_of(x=x)
    if (apply := backend._mapped.get(type(x))) is not None:

        def call(x: Array, options: Any) -> Results:
            return map_rows(function, x, axis, keepdims=keepdims, **options)

        call.__name__ = function.__name__  # by which places tell what is called
        found: Results = apply(x, axis, options, call)
        return found
    check.floating("x", x)
    dtype, temperature = loss_dtype(backend.xp, x), 1.0
    operands: tuple[Array | None, ...] = (None, None)
    given = {name: option for name, option in options.items() if not _is_default(option)}
    if given:
        hint = "; weights are passed as b=" if "b" in options else ""
        x, operands, temperature = _prepared(backend, x, dtype, given, hint)
    shape, given_dtype = tuple(x.shape), x.dtype
    axes = check.axes(axis, shape, "x")
    for one in axes:
        check.known_number("x", shape, one, "classes")
    folded = Folded(backend, shape, axes)
    backend = backend.with_class_axis(folded.axis - len(folded.shape))
    plan = RowPlan(backend, folded.axis, folded.shape, dtype, ("x",))
    operands = tuple(
        [None if array is None else plan.to_kernel(folded.aligned(array)) for array in operands]
    )

    if backend._is_padded:
        operands = (_of_classes(plan, operands[0], axes, x), operands[1])

    def on_block(rows: Array, where: Array, b: Array, temperature: Any) -> Any:
        if check.known(plan.classes, 0):
            found: Results = function(backend, backend.cast(rows, dtype), None, None, 1.0)
        else:
            rows = backend.kernel_layout(rows, dtype)
            found = function(backend, rows, where, b, temperature)
        found = tuple([backend.cast(result, given_dtype) for result in found])
        return found if len(found) > 1 else found[0]

    with no_warnings(backend):
        rows = plan.to_kernel(folded(x))
        results = backend.map_blocks(on_block, rows, *operands, temperature)
        results = results if isinstance(results, tuple) else (results,)
        if keepdims is None:
            return tuple([folded.undo(plan.to_user(result)) for result in results])
        return tuple([folded.reduced(plan.to_user(result), keepdims) for result in results])


def _of_classes(
    plan: RowPlan, where: Array | None, axes: tuple[int, ...], like: Array
) -> Array | None:
    """Leave out the columns that are no classes."""
    if len(axes) != 1:
        raise ValueError(f"axis: got {len(axes)} axes within split(num_classes=…), wanted one")
    is_class = plan.is_class(like)
    return is_class if where is None else where & is_class


def _is_default(option: Any) -> bool:
    return option is None or (type(option) is float and option == 1)


def _prepared(
    backend: Backend, x: Array, dtype: Any, options: dict[str, Any], hint: str
) -> tuple[Array, tuple[Array | None, Array | None], Any]:
    """Return x, the mask and the weights beside it, and the temperature, or refuse them."""
    _, options = placed(None, ("x",), (x,), options)
    backend = common_backend(x=x, **arrays_of(options))
    x, options = backend._together((x, options))
    x, b = _weighted(backend, x, options.get("b"), dtype)
    where = options.get("where")
    if where is not None:
        check.mask("where", where, "the entry takes part", hint)
        check.broadcastable("where", where, tuple(x.shape), "x's")
        where = masks(backend, options, hint)["where"]
    temperature = {"temperature": options.get("temperature", 1.0)}
    temperature = numbers({"temperature": TEMPERATURE}, backend, dtype, x, temperature)
    return x, (where, b), temperature["temperature"]


def _weighted(backend: Backend, x: Array, b: Any, dtype: Any) -> tuple[Array, Array | None]:
    """Return x, and its weights in the loss's dtype, broadcast against each other."""
    if b is None:
        return x, None
    if check.is_number(b):
        return x, backend.full((), 1.0, dtype, like=x) * check.number("b", b)
    check.numeric("b", b)
    shape, given = check.broadcast("b", b, tuple(x.shape), "x's"), tuple(x.shape)
    if len(shape) > len(given) or any(
        check.known(m, 1) and not check.known(n, 1) for n, m in zip(shape, given, strict=True)
    ):
        x = backend.xp.broadcast_to(x, shape)
    return x, backend.cast(b, dtype)
