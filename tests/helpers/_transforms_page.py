"""Write docs/transforms.md: python tests/helpers/_transforms_page.py > docs/transforms.md."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from _forms import ALONE, FORMS
from _transforms import SINGLE, TABLE, Row, column

INTRODUCTION = """\
# Transforms

What each framework may do to a loss, and on which losses it is tested. This page is written from
the tests by `python tests/helpers/_transforms_page.py > docs/transforms.md`, and a test compares
the two: a ✓ is a test which passes for every option of the loss listed here, and a note says where
a mark is another, or which of the two tiers of tests (`pytest`, `pytest --full`) has which options.

## Losses and options

Each option alone, and all together that go together (an *alone* one excludes another or changes
the shape).
"""
SECTIONS = {
    "closed": """\
## Closed forms, on every library

`value_and_grad`, `hvp`, `hessian_diagonal`, `hessian` and `value_grad_and_hessian_diagonal` on
NumPy, array-api-strict, dpnp, MLX, PyTorch and JAX arrays, in float64, to 1e-12 of PyTorch's
automatic differentiation. CuPy runs the same code; it has not been run on a GPU yet.
""",
    "torch": """\
## PyTorch

Every floating array of a call is differentiated by: logits, probabilities, weights, an array
`normalizer`, features, classifier and bias.

With `fullgraph=True`, the maps and `linear_cross_entropy` need a number of classes that is known
when they are compiled; the other losses also take one that depends on the data (`z[:, allowed]`).
""",
    "jax": """\
## JAX

Every floating array of a call is differentiated by, as with PyTorch.

Inside `shard_map` and `pmap` a loss, and its `value_and_grad`, are of the device's own rows. With
classes split there, the loss is silently wrong for now: leave their axis to `jit`.
""",
    "mlx": """\
## MLX

Every floating array of a call is differentiated by, in float64 on the CPU.
""",
}
NAMES = {
    "cross_entropy": "cross-entropy",
    "nll_loss": "NLL",
    "linear_cross_entropy": "linear",
    "next_token_cross_entropy": "next token",
    "softmax_focal_loss": "softmax focal",
    "poly_cross_entropy": "poly",
    "binary_cross_entropy_with_logits": "BCE",
    "sigmoid_focal_loss": "sigmoid focal",
    "binary_cross_entropy": "BCE of p",
    "kl_divergence": "KL",
    "jensen_shannon_divergence": "JS",
    "entropy": "entropy",
    "perplexity": "perplexity",
    "maps": "maps",
}
TESTS = """
    test_closed test_torch test_torch_compile test_torch_training test_jax test_jax_programs
    test_jax_devices test_mlx
"""


class Notes:
    """Footnotes: one a reason."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, sign: str, reason: str | None) -> str:
        """Give a cell, and remember why."""
        if reason is None:
            return sign
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"{sign}[^{self.reasons.index(reason) + 1}]"


def options() -> Iterator[str]:
    """Give the lines of the table of losses and options."""
    yield "| loss | targets | options | alone |"
    yield "| --- | --- | --- | --- |"
    for form in FORMS:
        both = [
            ", ".join(
                f"`{o}`" if o.replace("_", "").isalpha() else o for o in form.options if keep(o)
            )
            for keep in (lambda o: o not in ALONE, lambda o: o in ALONE)
        ]
        yield f"| `{form.function}` | {form.targets or '–'} | {both[0] or '–'} | {both[1] or '–'} |"


def row_of(row: Row, notes: Notes) -> str:
    """Give a line of a table."""
    cells = [
        notes.mark("–", row.without[name]) if name in row.without else notes.mark("✓", row.note)
        for name in NAMES
    ]
    return f"| {row.title} | {' | '.join(cells)} |"


def import_tests() -> None:
    """Import the tests that register rows, in the order of the page."""
    sys.path.append(str(Path(__file__).parents[1] / "transforms"))
    for name in TESTS.split():
        importlib.import_module(name)


def page() -> str:
    """Give the whole page."""
    import_tests()
    assert set(NAMES) == {column(form.function) for form in FORMS}
    assert {row.framework for row in TABLE} == set(SECTIONS)
    notes, lines = Notes(), [INTRODUCTION, *options(), ""]
    for framework, introduction in SECTIONS.items():
        lines += [introduction, f"| | {' | '.join(NAMES.values())} |"]
        lines.append("| --- |" + " :-: |" * len(NAMES))
        lines += [row_of(row, notes) for row in TABLE if row.framework == framework]
        single = [f"- {title}" for its, title in SINGLE if its == framework]
        lines += ["", *(["Also tested:", "", *single, ""] if single else [])]
    lines += [f"[^{i}]: {reason}" for i, reason in enumerate(notes.reasons, start=1)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(page())
