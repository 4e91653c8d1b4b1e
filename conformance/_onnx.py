"""What onnxruntime runs: this library, written down as ONNX models, and ONNX's own loss.

Both take NumPy's arrays. A model is made once for each signature: dtypes, numbers of classes and
options that are no arrays. All other lengths are symbolic, so that it runs with many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np

from xp_xent.conformance._peer_options import soft, takes
from xp_xent.conformance._subject import Subject

Array = Any
Call = Callable[..., Array]
Arrays = Mapping[str, Array]
KEPT: Final = 16  # models of a function, half a megabyte each
DTYPES: Final = ("float16", "float32", "float64")
ELEMENTWISE: Final = (
    "binary_cross_entropy_with_logits", "sigmoid_focal_loss", "sigmoid", "log_sigmoid",
)  # fmt: skip


def runner(model: Any) -> Callable[[Arrays], Array]:
    """Return what computes a model's only result, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.enable_cpu_mem_arena = False  # megabytes a model
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except errors.Fail as error:
        raise RuntimeError(str(error)) from error

    def run(inputs: Arrays) -> Array:
        try:
            (found,) = session.run(None, inputs)
        except (errors.Fail, errors.InvalidArgument) as error:  # which are no RuntimeError
            raise RuntimeError(str(error)) from error
        return found

    return run


def shapes_of(name: str, given: Arrays, axis: int) -> dict[str, Any]:
    """Return the shapes of arrays, None for lengths that are neither classes nor features.

    Only in arrays of the logits' shape or of the rows'. Where the logits and the targets do not
    fit, all lengths are known, so that the loss can refuse them.
    """
    shapes = {key: x.shape for key, x in given.items()}
    first, *others = list(shapes)[:2]
    logits = shapes[first]
    if name in ELEMENTWISE:
        place = rows = None
    elif -len(logits) <= axis < len(logits):
        place = axis % len(logits)
        rows = logits[:place] + logits[place + 1 :]
    else:
        return shapes
    free = {logits: tuple(n if i == place else None for i, n in enumerate(logits))}
    if rows is not None:
        free[rows] = (None,) * len(rows)
    linear = name == "linear_cross_entropy"
    whole = {"argument_1", "bias"} if linear else set()
    if rows is not None:  # of as many classes as there are rows, these have the rows' shape
        whole |= {"weight", "alpha"}
    if not linear and any(shapes[key] not in free for key in others):
        return shapes
    return {k: shape if k in whole else free.get(shape, shape) for k, shape in shapes.items()}


def traced(
    function: Call, given: Arrays, positional: int, shapes: Any, constants: dict[str, Any]
) -> Any:
    """Write a call down as a model."""
    import ndonnx

    inputs = {k: ndonnx.argument(shape=shapes[k], dtype=str(x.dtype)) for k, x in given.items()}
    arrays, named = list(inputs.values())[:positional], dict(list(inputs.items())[positional:])
    return ndonnx.build(inputs, {"found": function(*arrays, **named, **constants)})


def modelled(name: str, function: Call) -> Call:
    """Return a function of NumPy's arrays that does as one of this library, by an ONNX model."""
    models: dict[str, Any] = {}

    def call(*arrays: Array, **options: Any) -> Array:
        given = {f"argument_{i}": x for i, x in enumerate(arrays)}
        given |= {key: np.asarray(x) for key, x in options.items() if hasattr(x, "dtype")}
        constants = {key: x for key, x in sorted(options.items()) if key not in given}
        shapes = shapes_of(name, given, constants.get("axis", -1))
        signature = repr(([(key, x.dtype, shapes[key]) for key, x in given.items()], constants))
        if signature not in models:
            if len(models) >= KEPT:
                del models[next(iter(models))]
            model = traced(function, given, len(arrays), shapes, constants)
            models[signature] = runner(model)
        return models[signature](given)

    return call


def written_down(values: Mapping[str, Call], gradients: Mapping[str, Call]) -> Subject:
    """Return functions of this library, and their gradients, as ONNX models."""
    for package in ("ndonnx", "onnxruntime"):
        import_module(package)  # ImportError where it is missing
    found, slopes = (
        {name: modelled(name, call) for name, call in part.items()} for part in (values, gradients)
    )
    name, packages = "xp_xent through ONNX", ("xp_xent", "ndonnx", "onnxruntime")
    return Subject(name, "numpy", found, slopes, DTYPES, traced=True, packages=packages)


def operator() -> Subject:
    """Return ONNX's operator SoftmaxCrossEntropyLoss, which has no gradient outside of training."""
    from onnx import helper

    def model(inputs: Arrays, attributes: dict[str, Any]) -> Any:
        """Make a model of this one operator."""
        form = helper.np_dtype_to_tensor_dtype
        node = helper.make_node("SoftmaxCrossEntropyLoss", [*inputs], ["loss"], **attributes)
        free = [
            helper.make_tensor_value_info(name, form(x.dtype), [None] * x.ndim)
            for name, x in inputs.items()
        ]
        found = helper.make_tensor_value_info("loss", form(inputs["scores"].dtype), None)
        graph = helper.make_graph([node], "loss", free, [found])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    import_module("onnxruntime")
    models: dict[str, Any] = {}

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        axis = options.pop("axis", -1)
        given = takes(options, "weight", "ignore_index", "reduction")
        if soft(logits, targets) or targets.dtype not in (np.int32, np.int64) or logits.ndim < 2:
            raise NotImplementedError("labels of int32 or int64, for more than one row, only")
        inputs = {"scores": np.moveaxis(logits, axis, 1), "labels": targets}
        if (weight := given.pop("weight")) is not None:
            inputs["weights"] = weight.astype(logits.dtype)  # which it insists on
        attributes = {name: x for name, x in given.items() if x is not None}
        key = repr(([(name, x.dtype, x.ndim) for name, x in inputs.items()], attributes))
        if key not in models:
            models[key] = runner(model(inputs, attributes))
        return models[key](inputs)

    name, packages = "ONNX SoftmaxCrossEntropyLoss in onnxruntime", ("onnx", "onnxruntime")
    return Subject(name, "numpy", {"cross_entropy": cross_entropy}, {}, DTYPES, packages=packages)
