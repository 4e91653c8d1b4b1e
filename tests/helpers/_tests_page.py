"""Write docs/tests.md: python tests/helpers/_tests_page.py > docs/tests.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from _forms import FORMS, MAPS, NOT_LOSSES, Form
from _transforms import COLUMNS, TABLE, Row, column
from _transforms_page import TESTS, import_tests

import xp_xent

INTRODUCTION = """\
# What is tested where

Three tables, written from the tests by `python tests/helpers/_tests_page.py > docs/tests.md`: the
test of the first tier (plain `pytest`; CONTRIBUTING.md says what the tiers are) that holds each
function under each option, on each array library, and under each transform. Files are in `tests/`.
A test compares this page with what pytest collects. Transforms left to the second tier (matrix
nests of `jacfwd` and `jacrev`, forward finite differences, Inductor) stand in
[transforms](transforms.md). The maps share a column: a thinned row has one of them.
"""
BINARY = "losses/test_binary_targets.py"
CONFIGURED = "functions/test_configured.py::TestConfiguredLosses"
GRADIENTS = "functions/test_gradients.py"
WEIGHTS = "functions/test_class_weights.py"
# Where each name is asked on a library: the beginning of a test's name, B being the library's.
ON_A_LIBRARY = {
    "CrossEntropyLoss": f"{CONFIGURED}::test_is_the_function[B",
    "BCEWithLogitsLoss": f"{CONFIGURED}::test_is_the_function[B",
    "LossAccumulator": "functions/test_metrics.py::TestLossAccumulator::test_is_the_mean_of_all[B",
    "bits_per_byte": "functions/test_metrics.py::TestBitsPerByte::test_uniform[B",
    "perplexity": "functions/test_metrics.py::TestPerplexity::test_uniform[B",
    "balanced_class_weights": f"{WEIGHTS}::TestBalanced::test_ignored_labels[B",
    "effective_number_weights": f"{WEIGHTS}::TestEffectiveNumber::test_formula[B",
    "positive_class_weight": f"{WEIGHTS}::TestPositive::test_multilabel[B",
    "diagnose": "diagnosis/test_diagnose.py::test_mistakes[B",
    "Finding": "diagnosis/test_diagnose.py::test_mistakes[B",
    "LossStats": "losses/test_return_stats.py::test_they_are_what_they_say[B",
    "value_and_grad": f"{GRADIENTS}::test_random_calls[B",
    "hvp": "functions/test_curvature.py::test_random_calls[B",
    "hessian_diagonal": "functions/test_curvature.py::test_random_calls[B",
    "hessian": "functions/test_hessian.py::test_random_calls[B",
    "value_grad_and_hessian_diagonal": (
        "functions/test_value_grad_and_curvature.py::test_is_each_function_of_one[B"
    ),
    "split": "backends/test_split_jax_padded.py::test_a_vocabulary_filled_up_on_one_device",
    "threads": "backends/test_threads.py::test_same_bits[B",  # of NumPy, and PyTorch on the CPU
}
SPLIT = "backends/test_split_jax.py"
LIBRARIES = ("numpy", "torch", "jax", "dpnp", "mlx", "dask", "array_api_strict")
WEIGHTED = f"{WEIGHTS}::TestWeightedSamples"
# Options of functions that are no losses, in no registry
OPTIONS = {
    **dict.fromkeys([("split", "classes"), ("split", "rows")], SPLIT),
    ("split", "num_classes"): ON_A_LIBRARY["split"],
    ("balanced_class_weights", "ignore_index"): ON_A_LIBRARY["balanced_class_weights"],
    ("bits_per_byte", "over"): "functions/test_metrics.py::TestBitsPerByte::test_over[B",
    ("bits_per_byte", "where"): "functions/test_metrics.py::TestBitsPerByte::test_over[B",
    ("bits_per_byte", "ignore_index"): "functions/test_metrics.py::TestBitsPerByte::test_over[B",
    ("bits_per_byte", "axis"): "functions/test_metrics.py::TestBitsPerByte::test_over[B",
    ("balanced_class_weights", "sample_weight"): f"{WEIGHTED}::test_balanced[B",
    ("balanced_class_weights", "absent"): f"{WEIGHTED}::test_absent[B",
    ("effective_number_weights", "sample_weight"): f"{WEIGHTED}::test_effective_number[B",
    ("effective_number_weights", "absent"): f"{WEIGHTED}::test_absent[B",
    ("positive_class_weight", "sample_weight"): f"{WEIGHTED}::test_positive[B",
    ("positive_class_weight", "absent"): f"{WEIGHTED}::test_absent[B",
    ("effective_number_weights", "beta"): ON_A_LIBRARY["effective_number_weights"],
    ("effective_number_weights", "ignore_index"): (
        f"{WEIGHTS}::TestEffectiveNumber::test_ignored_labels[B"
    ),
    ("positive_class_weight", "axis"): f"{WEIGHTS}::TestPositive::test_multilabel[B",
    ("diagnose", "axis"): "diagnosis/test_diagnose.py::test_nothing_wrong[B",
    ("diagnose", "ignore_index"): f"{BINARY}::TestDiagnose::test_ignore_index[B",
    ("value_grad_and_hessian_diagonal", "curvature"): (
        "functions/test_value_grad_and_curvature.py::test_upper_bound_is_the_sum_of_magnitudes[B"
    ),
    ("value_and_grad", "argnums"): f"{GRADIENTS}::TestArgnums::test_",
    ("value_and_grad", "out"): "functions/test_out.py::test_same_bits[",
    ("value_and_grad", "cotangent"): f"{GRADIENTS}::TestCotangent::test_weights_the_rows[B",
}
# What a test of an ONNX model asks of a function that is no loss
AS_MODELS = {
    "value_and_grad": "gradient by 0",
    "hvp": "hvp",
    "hessian_diagonal": "hessian_diagonal",
    "value_grad_and_hessian_diagonal": "curvature",
}
FILES = {test.partition("::")[0] for test in (*ON_A_LIBRARY.values(), *OPTIONS.values())} | {
    "functions/test_maps.py", "backends/test_cupy.py", "backends/test_ndonnx.py",
    "backends/test_ndonnx_models.py", "backends/test_split_torch.py",
    *(f"transforms/{name}.py" for name in TESTS.split()),
}  # fmt: skip


def collected() -> list[str]:
    """List the first tier's tests of these files, without the folder's name."""
    here = Path(__file__).parents[1]
    files = [here / name for name in sorted(FILES)]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, *files], cwd=here.parent, capture_output=True, encoding="utf-8", check=True
    )
    return [line.removeprefix("tests/") for line in run.stdout.splitlines() if "::" in line]


class Tests:
    """The first tier, to be asked for one test; KeyError where there is none."""

    def __init__(self) -> None:
        self.names = collected()

    def first(self, beginning: str, *parts: str) -> str:
        """Give the first test whose name begins so and has these parts between - and brackets."""
        for name in self.names:
            found = re.split(r"[\[\]-]", name)
            if name.startswith(beginning) and set(parts) <= set(found):
                return f"`{name}`"
        raise KeyError(f"no test of the first tier: {beginning} {parts}")


def on_library(tests: Tests, function: str, library: str) -> str:
    """Name the test of a function on a library."""
    if library == "cupy":
        if function in NOT_LOSSES or function not in {form.function for form in FORMS}:
            return "not yet run on a GPU"
        return tests.first(f"backends/test_cupy.py::test_losses[{function}]")
    if library == "ndonnx":
        return as_model(tests, function)
    if function in ON_A_LIBRARY:
        beginning = ON_A_LIBRARY[function]
        if function == "split" and library == "torch":
            return tests.first("backends/test_split_torch.py")
        if function == "split" and library != "jax":
            return "has no parts"
        if function == "threads" and library not in ("numpy", "torch"):
            return "has no threads of its own"
        if function == "threads":
            return tests.first(f"backends/test_threads.py::test_same_bits[{library}")
        return tests.first(beginning.replace("[B", f"[{library}"))
    if function in MAPS:
        return tests.first("functions/test_maps.py::TestValues", library, function)
    return tests.first(f"{GRADIENTS}::test_random_calls[{library}", function)


def as_model(tests: Tests, function: str) -> str:
    """Name the test of a function as an ONNX model."""
    models = "backends/test_ndonnx_models.py::test_models["
    if function in ("balanced_class_weights", "effective_number_weights"):
        weights = "backends/test_ndonnx.py::TestAdapter::test_class_weights_are_models_too["
        return tests.first(weights, function)
    if function == "positive_class_weight":
        return tests.first(f"backends/test_ndonnx.py::TestAdapter::test_{function}_is_a_model_too")
    if function in AS_MODELS:
        return tests.first(models, AS_MODELS[function])
    if function in {form.function for form in FORMS}:
        return tests.first(models, function, "value")
    return "not asked"


def options(tests: Tests) -> Iterator[str]:
    """Give the lines of functions and options: the first row of a table that draws it."""
    yield "| function | option | test |"
    yield "| --- | --- | --- |"
    for form in FORMS:
        named = f"`{form.function}`" + (f", {form.targets}" if form.targets else "")
        for option in ("plain", *form.options):
            row = next(row for row in TABLE if _draws(row, form, option))
            yield f"| {named} | {option} | {tests.first(f'{row.test}[{form.name}]')} |"
    for (function, option), beginning in OPTIONS.items():
        test = tests.first(beginning.replace("[B", "[numpy"))
        yield f"| `{function}` | {option} | {test} |"


def _draws(row: Row, form: Form, option: str) -> bool:
    return column(form.function) not in row.without and any(
        case.option == option for case in row.drawn(form)
    )


def libraries(tests: Tests) -> Iterator[str]:
    """Give the lines of functions and libraries."""
    yield f"| function | {' | '.join((*LIBRARIES, 'cupy', 'ndonnx'))} |"
    yield "| --- |" + " --- |" * (len(LIBRARIES) + 2)
    for function in xp_xent.__all__:
        cells = [on_library(tests, function, name) for name in (*LIBRARIES, "cupy", "ndonnx")]
        yield f"| `{function}` | {' | '.join(cells)} |"


def transforms(tests: Tests) -> Iterator[str]:
    """Give the lines of transforms and functions; the maps are one column."""
    yield f"| transform | {' | '.join(f'`{name}`' for name in COLUMNS[:-1])} | maps |"
    yield "| --- |" + " --- |" * len(COLUMNS)
    for row in TABLE:
        cells = []
        for name in COLUMNS:
            drawn = [f for f in FORMS if column(f.function) == name and row.drawn(f)]
            if "by the targets" in row.title:  # of labels it tests the refusal alone
                drawn = [form for form in drawn if form.targets == "probabilities"]
            cells.append("–" if name in row.without else _cell(tests, row, drawn))
        if set(cells) - {"–", "second tier"}:  # a transform is not left to it
            yield f"| {row.framework}: {row.title}, `{row.test}` | {' | '.join(cells)} |"


def _cell(tests: Tests, row: Row, drawn: list[Form]) -> str:
    try:
        return tests.first(f"{row.test}[{drawn[0].name}]").replace(row.test, "")
    except (IndexError, KeyError):
        return "second tier"


def page() -> str:
    """Give the whole page."""
    import_tests()
    tests = Tests()
    parts = {
        "Function × option": options(tests),
        "Function × library": libraries(tests),
        "Function × transform": transforms(tests),
    }
    lines = [INTRODUCTION]
    for title, body in parts.items():
        lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(page())
