"""From arrays and options to what is asked for: a case, and the pipeline that is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import xp_xent
from xp_xent.backends import dtype_name, owner_of
from xp_xent.verify._case import BinaryCase, Case, broadcasts
from xp_xent.verify._pipeline import Pipeline, Step
from xp_xent.verify._stored import BadInput

LOSSES = (
    "cross_entropy", "next_token_cross_entropy", "nll_loss", "binary_cross_entropy_with_logits",
)  # fmt: skip
ARRAYS = ("weight", "pos_weight", "sample_weight", "where", "class_where")

LOOKED_AT = 1 << 20  # logits, up to which the library is given labels and masks as they are


class Problem(NamedTuple):
    """What is asked for, of one side's arrays.

    Attributes
    ----------
    loss : str
        The loss's name.
    case : Case
    pipeline : Pipeline
    arrays : dict
        Its positional arrays and its options, as the loss takes them.
    """

    loss: str
    case: Case
    pipeline: Pipeline
    arrays: dict[str, Any]
    options: dict[str, Any]

    @property
    def variants(self) -> list[tuple[int, int]]:
        """The offsets and shifts of labels that rules lead to."""
        shift, T = self.pipeline.shift, self.case.positions[-1:] or (1,)
        shifts = [s for s in (shift - 1, shift, shift + 1) if 0 <= s < max(T[0], 1)]
        return [(offset, s) for s in shifts for offset in (0, -1, 1)]


def to_host(array: Any) -> Any:
    """Give an array of any library as NumPy's; a memory map stays one."""
    if isinstance(array, np.ndarray):
        return array
    backend = owner_of(array)
    return np.asarray(array) if backend is None else backend.to_numpy(array)


def problem(
    loss: str, arrays: Mapping[str, Any], options: Mapping[str, Any], of: str = ""
) -> Problem:
    """Check what is given and lay it out.

    Parameters
    ----------
    loss : str
        One of `LOSSES`.
    arrays : mapping
        ``logits``, ``targets`` and, if there, ``weight``, ``pos_weight``, ``sample_weight``,
        ``where`` and ``class_where``.
    options : mapping
        Options of the loss that are no arrays.
    of : str, optional
        The side, for messages.

    Raises
    ------
    BadInput
        They do not fit.
    """
    if loss not in LOSSES:
        raise BadInput(f"loss function: got {loss!r}, wanted one of {', '.join(LOSSES)}")
    for name in ("logits", "targets"):
        if name not in arrays:
            raise BadInput(f"{name}{of}: missing; got {', '.join(arrays) or 'nothing'}")
    given = {name: arrays[name] for name in ("logits", "targets", *ARRAYS) if name in arrays}
    _checked(loss, given, options, of)
    binary = loss.startswith("binary")
    return (_binary if binary else _softmax)(loss, given, dict(options))


def _checked(loss: str, given: dict[str, Any], options: Mapping[str, Any], of: str) -> None:
    """Let the library refuse what it refuses: on arrays of these shapes, which need no memory.

    Of large arrays all axes but the classes' are cut to two positions; labels are looked at whole.
    """
    logits, targets = given["logits"], given["targets"]
    if dtype_name(logits.dtype) not in ("float16", "bfloat16", "float32", "float64"):
        raise BadInput(f"logits{of}: got {logits.dtype}, wanted floating numbers")
    if not logits.size:
        raise BadInput(f"logits{of}: got shape {logits.shape}, wanted at least one row and class")
    if loss == "next_token_cross_entropy" and targets.dtype.kind not in "iu":
        raise BadInput(f"targets{of}: got {targets.dtype}, wanted integer tokens")
    binary = loss.startswith("binary")
    labelled = targets.dtype.kind in "iu" and not binary
    axis = options.get("axis", -1) if loss in ("cross_entropy", "nll_loss") else -1
    if not logits.ndim or not -logits.ndim <= axis < logits.ndim:
        raise BadInput(f"logits{of}: got shape {logits.shape}, wanted classes along axis {axis}")
    cut = logits.size > LOOKED_AT
    rows = list(logits.shape)
    if not binary:
        del rows[axis]
    shown = {}
    for name, array in given.items():
        shape = list(np.shape(array))
        if cut and name != "weight" and shape in (rows, list(logits.shape)):
            whole = shape[axis]
            less = [min(n, 2) for n in shape]
            if shape != rows:
                less[axis] = whole
            shape = less
        if cut and name == "class_where" and broadcasts(shape, logits.shape):
            shape = [n if i == axis % logits.ndim - logits.ndim else min(n, 2)
                     for i, n in enumerate(shape, -len(shape))]  # fmt: skip
        shown[name] = np.broadcast_to(np.zeros((), _dtype(array)), shape)
    if labelled and not cut:
        shown["targets"] = targets
        if "where" in given:
            shown["where"] = np.asarray(given["where"])
    first, second = shown.pop("logits"), shown.pop("targets")
    try:
        getattr(xp_xent, loss)(first, second, **shown, **options)
    except (TypeError, ValueError) as error:
        argument, colon, why = str(error).partition(": ")
        said = f"{argument}{of}: {why}" if colon and argument in given else str(error)
        raise BadInput(said) from error
    if labelled and cut:
        _labels_in_range(loss, given, options, of)


def _labels_in_range(loss: str, given: dict[str, Any], options: Mapping[str, Any], of: str) -> None:
    """Refuse labels that are no class."""
    targets, logits = given["targets"], given["logits"]
    classes = logits.shape[options.get("axis", -1)]
    bad = (targets < 0) | (targets >= classes)
    if options.get("ignore_index", -100) is not None:
        bad &= targets != options.get("ignore_index", -100)
    if "where" in given:
        bad &= np.asarray(given["where"])
    if loss == "next_token_cross_entropy":
        bad[..., 0] = False
    if bad.any():
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        place = ", ".join(map(str, first))
        raise BadInput(
            f"targets{of}: got label {targets[first]} at [{place}], wanted 0 … {classes - 1}"
        )


def _dtype(array: Any) -> Any:
    return np.float32 if dtype_name(array.dtype) == "bfloat16" else array.dtype


def _mask(array: Any) -> Any:
    """Give a mask as booleans; the library takes 0 and 1, too."""
    return array if array is None or array.dtype == bool else array != 0


def _softmax(loss: str, given: dict[str, Any], options: dict[str, Any]) -> Problem:
    logits, targets = given["logits"], given["targets"]
    axis = options.get("axis", -1) % logits.ndim
    labelled = targets.dtype.kind in "iu"
    weight, mask = given.get("weight"), _mask(given.get("class_where"))
    case = Case(
        np.moveaxis(logits, axis, -1),
        targets if labelled else None,
        None if labelled else np.moveaxis(targets, axis, -1),
        None if weight is None else np.asarray(weight, dtype=np.float64),
        given.get("sample_weight"),
        _mask(given.get("where")),
        None if mask is None else np.moveaxis(np.broadcast_to(mask, logits.shape), axis, -1),
        axis,
    )
    kind = "weights" if labelled and weight is not None else "count"
    softcap, temperature = options.get("softcap"), float(options.get("temperature", 1.0))
    steps: tuple[Step, ...] = () if softcap is None else (("softcap", float(softcap)),)
    pipeline = Pipeline(
        steps=steps if temperature == 1 else (*steps, ("temperature", temperature)),
        form="none" if loss == "nll_loss" else "softmax",
        shift=int(loss == "next_token_cross_entropy"),
        ignore_index=options.get("ignore_index", -100) if labelled else None,
        weight_power=int(weight is not None),
        label_smoothing=float(options.get("label_smoothing", 0.0)),
        smoothing=options.get("smoothing", "uniform"),
        z_loss=float(options.get("z_loss", 0.0)),
        reduction=options.get("reduction", "mean"),
        denominator=kind if options.get("normalizer") is None else float(options["normalizer"]),
    )
    return Problem(loss, case, pipeline, given, options)


def _binary(loss: str, given: dict[str, Any], options: dict[str, Any]) -> Problem:
    logits, positive = given["logits"], given.get("pos_weight")
    weight = given.get("weight")
    if given.get("sample_weight") is not None:
        raise BadInput("sample_weight: verify has none of elements; multiply weight by it")
    if positive is not None and np.size(positive) > 1:
        raise BadInput(f"pos_weight: got shape {np.shape(positive)}, wanted one number for verify")
    case = BinaryCase(
        logits[..., None],
        None,
        given["targets"][..., None],
        None if positive is None else np.asarray([float(np.reshape(positive, ())), 1.0]),
        None if weight is None else np.broadcast_to(weight, logits.shape),
        _mask(given.get("where")),
        axis=logits.ndim,
        shared=False,
    )
    pipeline = Pipeline(
        ignore_index=None,
        weight_power=int(positive is not None),
        label_smoothing=float(options.get("label_smoothing", 0.0)),
        reduction=options.get("reduction", "mean"),
        denominator="count" if options.get("normalizer") is None else float(options["normalizer"]),
    )
    return Problem(loss, case, pipeline, given, options)
