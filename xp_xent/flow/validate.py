"""What a call's signature settles for rows of classes, and the refusals that need no values."""

from typing import Any

from xp_xent.backends import Backend, backend_of, dtype_name, owner_of, same_shape
from xp_xent.backends._numbers import is_zero
from xp_xent.flow import checks as check
from xp_xent.flow.options import BINARY, MASKS, SMOOTHINGS, WEIGHTS, is_number
from xp_xent.flow.plan import RowPlan
from xp_xent.kernels.label_smoothing import Smoothing

Array = Any

IGNORED = -100  # the default of ignore_index
ARRAYS = (*WEIGHTS, *MASKS, "normalizer")
OR_NUMBERS = ("alpha", "pos_weight", "normalizer", "b")
REDUCTIONS = ("mean", "sum", "none")


def common_backend(**arrays: Array) -> Backend:
    """Find the one backend of all arrays; refuse several libraries, or devices where known."""
    backend, first, where = backend_of(**arrays), "", None
    for name, array in arrays.items():
        device = backend.device(array)
        if device is None:
            continue
        if where is None:
            first, where = name, device
        elif device != where:
            raise ValueError(
                f"{name}: got an array on {device}, but {first} is on {where}; no array is copied "
                "to another device silently, so move one explicitly"
            )
    return backend


def whole(**arrays: Array) -> None:
    """Refuse arrays that lie in several places by their type."""
    for name, x in arrays.items():
        if _is_spread(x):
            raise TypeError(
                f"{name}: got a {type(x).__name__}, which lies in several places, wanted a whole "
                "array; use full_tensor(), or to_local() within split(rows=…)"
            )


def spread_alike(**arrays: Array | None) -> None:
    """Refuse arrays of which some lie in several places by their type, and others do not."""
    found = {name: x for name, x in arrays.items() if x is not None and len(x.shape)}
    spread = [name for name, x in found.items() if _is_spread(x)]
    for name, x in found.items():
        if spread and name not in spread:
            raise TypeError(
                f"{name}: got a {type(x).__name__} beside {spread[0]}, a "
                f"{type(found[spread[0]]).__name__}, wanted all alike; distribute it as well, or "
                "use full_tensor() of the others"
            )


def _is_spread(array: Array) -> bool:
    owner = owner_of(array)
    return owner is not None and type(array) in owner._mapped


def loss_dtype(xp: Any, logits: Array) -> Any:
    """Return the dtype in which a loss of these logits is computed and returned."""
    return xp.float32 if dtype_name(logits.dtype) in ("float16", "bfloat16") else logits.dtype


def row_plan(
    arrays: dict[str, Array],
    options: dict[str, Any],
    names: tuple[str, ...],
    classes: int | None = None,
    plan_type: type[RowPlan] = RowPlan,
) -> RowPlan:
    """Check everything but the targets' own shape and values.

    `arrays` are the positional ones by name, the logits first; or, with a number of classes,
    features (..., D) that the logits are yet to be computed from.
    """
    (first, like), *_ = arrays.items()
    backend = common_backend(**arrays, **arrays_of(options))
    check.floating(first, like)
    shape = tuple(like.shape) if classes is None else (*like.shape[:-1], classes)
    axis = check.axis(options.get("axis", -1), shape, count=backend._class_count)
    backend = backend.with_class_axis(axis - len(shape))
    index_dtype = backend.indices(like, axis - len(shape)).dtype if len(like.shape) else None
    plan = plan_type(backend, axis, shape, loss_dtype(backend.xp, like), names, index_dtype)
    ignored_label(options)
    reduction(options)
    of = "the logits' without the class axis"
    for name in ("weight", "alpha"):
        given = options.get(name)
        if given is not None and not (name == "alpha" and is_number(given)):
            check.numeric(name, given)
            check.shape(name, given, (plan.classes,), "one number a class")
            check.known_number(name, tuple(given.shape), 0, "classes")
    if options.get("sample_weight") is not None:
        check.numeric("sample_weight", options["sample_weight"])
        check.shape("sample_weight", options["sample_weight"], plan.rows_shape, of)
    if options.get("where") is not None:
        check.mask("where", options["where"])
        check.shape("where", options["where"], plan.rows_shape, of)
    if options.get("class_where") is not None:
        check.mask("class_where", options["class_where"], "the class takes part")
        check.broadcastable("class_where", options["class_where"], plan.shape)
    return plan


def smoothing_of(options: dict[str, Any], classes: int | None = None) -> Smoothing:
    """Make of the options of label smoothing what smooths, or refuse them."""
    epsilon, kind = options.get("label_smoothing", 0.0), options.get("smoothing", "uniform")
    check.choice("smoothing", kind, SMOOTHINGS)
    if not is_zero(epsilon) and kind == "others" and check.known(classes, 1):
        raise ValueError("smoothing: 'others' needs at least two classes, got one")
    return Smoothing(epsilon, kind)


def arrays_of(options: dict[str, Any]) -> dict[str, Array]:
    """Name the arrays among the options, or what is in the place of one."""
    found = {}
    for name, x in options.items():
        if x is None or name == "bias" or (name in OR_NUMBERS and check.is_number(x)):
            continue
        is_array = not check.is_number(x) and hasattr(x, "dtype")
        if is_array or (name in ARRAYS and name != "alpha"):
            found[name] = x
    return found


def ignored_label(options: dict[str, Any]) -> None:
    """Check the label to ignore."""
    if options.get("ignore_index") is not None:
        wanted = "an integer, or None for no such label"
        check.integer("ignore_index", options["ignore_index"], wanted)


def reduction(options: dict[str, Any]) -> None:
    """Check how losses of rows become a result."""
    kind, normalizer = options["reduction"], options.get("normalizer")
    check.choice("reduction", kind, REDUCTIONS)
    if normalizer is None:
        return
    if kind != "mean":
        raise ValueError(
            "normalizer: it replaces the mean's denominator, so it means nothing with "
            f"reduction={kind!r}; wanted reduction='mean'"
        )
    if not check.is_number(normalizer):
        check.numeric("normalizer", normalizer)
        check.shape("normalizer", normalizer, (), "one number")


def is_labels(plan: RowPlan, targets: Array, axis: int) -> bool:
    """Tell class labels from probabilities, or refuse the targets."""
    got, rows = tuple(targets.shape), plan.rows_shape
    logits = plan.shape
    kind, (first, second) = check.kind(targets), plan.names
    if kind == "integer" and same_shape(got, rows):
        return True
    if kind == "floating" and same_shape(got, logits):
        check.known_number(second, got, axis, "classes")
        return False
    binary = BINARY if plan.classes == 1 else ""
    if kind not in ("integer", "floating"):
        raise TypeError(
            f"{second}: got dtype {dtype_name(targets.dtype)}, wanted integer labels of shape "
            f"{rows} or floating probabilities of shape {logits}{binary}"
        )
    if kind == "floating" and same_shape(got, rows):
        raise TypeError(
            f"{second}: got floating labels ({dtype_name(targets.dtype)}) of shape {got}, wanted "
            f"integer labels of that shape, or floating probabilities of shape {logits}"
            f"{binary or check.CAST_LABELS}"
        )
    hint, fitting = "", check.fits_another_axis(logits, got)
    if kind == "integer" and same_shape(got, logits):
        hint = binary or "; one-hot targets are probabilities: convert them to a floating dtype"
    elif fitting:
        hint = f"; targets fit axis={' or axis='.join(map(str, fitting))}"
    elif kind == "integer" and len(got) == len(logits) and 1 in filter(_is_known, got):
        hint = "; labels have no class axis: squeeze it"
    raise ValueError(
        f"{second}: got {kind} shape {got} for {first} of shape {logits} and axis={axis}; "
        f"wanted integer labels of shape {rows} or floating probabilities of shape {logits}{hint}"
    )


def _is_known(length: Any) -> bool:
    return isinstance(length, int)  # not one that a compiler has yet to know


def no_label_to_ignore(name: str, options: dict[str, Any]) -> None:
    """Refuse an `ignore_index` beside probabilities."""
    if options.get("ignore_index") not in (None, IGNORED):
        raise ValueError(
            f"ignore_index: got {options['ignore_index']}, but {name} are "
            "probabilities, which no label marks; pass the rows that count as where="
        )


def tokens_of(first: str, like: Array, name: str, tokens: Array, options: dict[str, Any]) -> None:
    """Refuse tokens, weights and masks that are not of each position."""
    optional = {name: options[name] for name in ("sample_weight", "where")}
    given = {name: tokens, **{name: x for name, x in optional.items() if x is not None}}
    common_backend(**{first: like}, **given)
    check.labels(name, tokens)
    wide = "vocabulary" if first == "logits" else "last axis"
    for name, array in given.items():
        check.shape(name, array, like.shape[:-1], f"the {first}' without the {wide}")
