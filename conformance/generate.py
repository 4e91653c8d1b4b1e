"""Write the vector files, or check them: ``python -m xp_xent.conformance.generate [--check]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xp_xent.conformance import (
    _topics_agreement,
    _topics_binary,
    _topics_extreme,
    _topics_focal,
    _topics_gradients,
    _topics_half,
    _topics_ignored,
    _topics_labels,
    _topics_layout,
    _topics_maps,
    _topics_mass,
    _topics_options,
    _topics_others,
    _topics_probabilities,
    _topics_reductions,
    _topics_regularisers,
    _topics_smoothing,
    _topics_spread_focal,
    _topics_targets,
    _topics_weights,
)
from xp_xent.conformance._case import Case
from xp_xent.conformance._enclose import ENCLOSE
from xp_xent.conformance._enclosure import certified, nearest
from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.conformance._load import FLOAT_OPTIONS, INTEGERS
from xp_xent.conformance._map_values import MAPS
from xp_xent.conformance.tolerance import in_ulps

HERE = Path(__file__).parent
FORMAT_VERSION = 2
# File -> its topics
FILES: dict[str, Iterable[Callable[[], Iterable[Case]]]] = {
    "agreement": _topics_agreement.TOPICS,
    "bad_labels": (*_topics_labels.TOPICS, *_topics_targets.TOPICS),
    "binary": _topics_binary.TOPICS,
    "extreme_logits": _topics_extreme.TOPICS,
    "focal": _topics_focal.TOPICS,
    "gradients": _topics_gradients.TOPICS,
    "half_precision": _topics_half.TOPICS,
    "ignored_rows": _topics_ignored.TOPICS,
    "layout": _topics_layout.TOPICS,
    "maps": _topics_maps.TOPICS,
    "options": _topics_options.TOPICS,
    "other_losses": _topics_others.TOPICS,
    "probability_targets": _topics_probabilities.TOPICS,
    "reductions": _topics_reductions.TOPICS,
    "regularisers": _topics_regularisers.TOPICS,
    "smoothing": _topics_smoothing.TOPICS,
    "spread_focal": _topics_spread_focal.TOPICS,
    "spread_mass": _topics_mass.TOPICS,
    "weights": _topics_weights.TOPICS,
}
HEADER = [
    "Inputs are exact in their dtype; expected results are the true ones, rounded correctly.",
    "A result is right within `ulps` units in the last place of the expected number.",
    "The gradient is that of the value with respect to the logits; with reduction none, of each",
    "row's own loss; with a cotangent, of the sum of cotangent times loss.",
    "An exception `raises` is due on every machine or, if there is a value, on those that see",
    "labels in host memory; the value is due on the others.",
    "Numbers are C hex floats, nan, inf or -inf; arrays are in row-major order.",
]


# Numbers and arrays as JSON


def hex_float(x: float) -> str:
    """Write a float exactly, without trailing zeros."""
    mantissa, p, exponent = float(x).hex().partition("p")
    return mantissa.rstrip("0").rstrip(".") + p + exponent if p else mantissa


def two_digits(x: float) -> float:
    """Shorten a tolerance, to an int where it is one."""
    short = float(f"{x:.2g}")
    return int(short) if short.is_integer() and short < 1e6 else short


def coded(values: Any, dtype: str) -> dict[str, Any]:
    """Write an array; floats are rounded to `dtype`, unless the values are ints or bools."""
    array = np.asarray(values)
    if dtype in INTEGERS:
        name, data = dtype, array.ravel().tolist()
    elif array.dtype.kind in "bi":
        name, data = {"b": "bool", "i": "int64"}[array.dtype.kind], array.ravel().tolist()
    else:
        name, data = (
            dtype,
            [hex_float(nearest(x, dtype)) for x in array.ravel().tolist()],
        )
    return {"dtype": name, "shape": list(array.shape), "data": data}


def result(data: Any, bounds: Any, dtype: str) -> dict[str, Any]:
    """Write an expected array with the tolerance of each number."""
    ulps = in_ulps(bounds, data, dtype)
    return {
        "dtype": dtype,
        "shape": list(data.shape),
        "data": [hex_float(x) for x in np.ravel(data).tolist()],
        "ulps": [two_digits(x) for x in np.ravel(ulps).tolist()],
    }


# Files


def expected(case: Case, dtype: str) -> dict[str, Any]:
    """Write value and gradient, null where there is none."""
    if case.everywhere:
        return {"value": None, "gradient": None}
    given = ENCLOSE[case.function](case, dtype)
    truth = certified(given.compute, given.value_dtype, dtype)
    gradient = None
    if all(truth.gradient):
        data, bounds = given.gradient(truth.gradient), given.gradient(truth.gradient_errors)
        gradient = result(data, bounds, dtype)
    data, bounds = given.value(truth.value), given.value(truth.value_errors)
    value = result(data, bounds, given.value_dtype)
    return {"value": value, "gradient": gradient}


def arguments(case: Case, dtype: str) -> dict[str, Any]:
    """Write the arrays: logits and targets of a loss, x of a map."""
    if case.function in MAPS:
        return {"x": coded(case.logits, dtype)}
    targets = coded(case.targets, case.targets_dtype or dtype)
    return {"logits": coded(case.logits, dtype), "targets": targets}


def option(name: str, value: Any, dtype: str) -> Any:
    """Write an option: an array, a hex float or as it is."""
    if isinstance(value, list | np.ndarray):
        return coded(value, COMPUTE[dtype])
    return hex_float(value) if name in FLOAT_OPTIONS else value


def test(case: Case, dtype: str) -> dict[str, Any]:
    """Write one vector."""
    more: dict[str, Any] = {}
    if case.cotangent is not None:
        cotangent_dtype = dtype if case.function in MAPS else COMPUTE[dtype]
        more["cotangent"] = coded(case.cotangent, cotangent_dtype)
    if case.raises is not None:
        more["raises"] = case.raises
    return {
        "tcId": f"{case.name}-{dtype}",
        "comment": case.comment,
        "flags": list(case.flags),
        "arguments": arguments(case, dtype),
        "options": {name: option(name, x, dtype) for name, x in case.options.items()},
        **more,
        **expected(case, dtype),
    }


def layout(value: Any, levels: int, indent: str = "") -> str:
    """Write JSON with a line for each entry of the outer levels."""
    if not levels or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(k)}: {layout(v, levels - 1, inner)}" for k, v in value.items()]
    else:
        lines = [layout(v, levels - 1, inner) for v in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return left + f"\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{right}"


def vector_file(name: str, notes: Mapping[str, Any]) -> str:
    """Give the text of one file."""
    cases = [case for topic in FILES[name] for case in topic()]
    groups = [
        {
            "function": function,
            "dtype": dtype,
            "tests": [
                test(case, dtype)
                for case in cases
                if case.function == function and dtype in case.dtypes
            ],
        }
        for function in ENCLOSE
        for dtype in FORMATS
    ]
    used = sorted({flag for case in cases for flag in case.flags})
    envelope = {
        "schema": "schema.json",
        "formatVersion": FORMAT_VERSION,
        "numberOfTests": sum(len(case.dtypes) for case in cases),
        "header": HEADER,
        "notes": {flag: notes[flag] for flag in used},
        "testGroups": [group for group in groups if group["tests"]],
    }
    return layout(envelope, 5) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check every file; the exit status is 1 where a check fails."""
    parser = argparse.ArgumentParser(prog="python -m xp_xent.conformance.generate")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args(arguments).check
    notes = json.loads((HERE / "flags.json").read_text(encoding="utf-8"))
    stale = 0
    for name in FILES:
        path, text = HERE / "vectors" / f"{name}.json", vector_file(name, notes)
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not check and not same:
            path.write_text(text, encoding="utf-8")
        stale += not same
        print(f"{path.name}: {'up to date' if same else 'differs' if check else 'written'}")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
