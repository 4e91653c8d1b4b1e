"""`xp_xent.verify.compare`: what agrees, what is off, and by which rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _wrong_data import KINDS, make

import xp_xent
from xp_xent.verify import compare

RNG = np.random.default_rng(31)
LOGITS = (RNG.normal(size=(3, 20, 7)) * 3).astype(np.float32)
LABELS = RNG.integers(0, 7, (3, 20))
LABELS[:, 15:] = -100
BOTH = xp_xent.value_and_grad(xp_xent.cross_entropy)


def rules_of(result: Any, claim: int = 0) -> list[list[tuple[str, Any]]]:
    return [list(one.rules) for one in result.claims[claim].explanations]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_library_agrees(kind: str, dtype: str) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16").bfloat16
    data = make(kind, "small", "float64")
    logits = data.logits.astype(dtype)
    loss, gradient = BOTH(logits, data.targets, **data.options)
    result = compare(logits, data.targets, loss=loss, gradient=gradient, **data.options)
    assert result.agrees, result
    assert result.method == "ball arithmetic"


PART = (RNG.random((3, 20, 7)) < 0.7) | (np.arange(7) == LABELS[..., None])
OPTIONS: list[dict[str, Any]] = [
    {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "smoothing": "others", "z_loss": 1e-3},
    {"softcap": 4.0, "z_loss": 1e-2}, {"reduction": "sum"}, {"reduction": "none"},
    {"normalizer": 17.0}, {"weight": np.linspace(0.5, 2.0, 7)},
    {"sample_weight": RNG.uniform(0.1, 3.0, (3, 20)), "label_smoothing": 0.2},
    {"where": RNG.random((3, 20)) < 0.5},
    {"class_where": PART}, {"class_where": PART, "label_smoothing": 0.2, "softcap": 4.0},
    {"class_where": PART, "label_smoothing": 0.1, "smoothing": "others", "z_loss": 1e-2,
     "temperature": 2.0, "weight": np.linspace(0.5, 2.0, 7)},
    {"temperature": 0.7}, {"temperature": 3.0, "softcap": 4.0, "z_loss": 1e-2},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option_is_a_part_of_the_truth(options: dict[str, Any]) -> None:
    """Each is computed by `_truth.py` anew, and agrees with the library in float64."""
    logits = LOGITS.astype(np.float64)
    loss, gradient = BOTH(logits, LABELS, **options)
    result = compare(logits, LABELS, loss=loss, gradient=gradient, **options)
    assert result.agrees, result
    off = compare(logits, LABELS, gradient=gradient * (1 + 1e-11), backends=(), **options)
    assert not off.agrees


def test_pairs_agree_with_balls(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flint", reason="ball arithmetic is not installed")
    from xp_xent.verify import _judge

    by_balls = [compare(LOGITS, LABELS, backends=(), **o).loss for o in OPTIONS]
    monkeypatch.setattr(_judge, "_has_balls", lambda: False)
    for options, loss in zip(OPTIONS, by_balls, strict=True):
        result = compare(LOGITS, LABELS, backends=(), **options)
        assert result.method == "float64 pairs"
        assert result.loss == loss


def test_tolerance_is_that_of_the_dtype() -> None:
    """A float32 loss may be some 1e-6 off, a float64 one not."""
    loss = float(BOTH(LOGITS.astype(np.float64), LABELS)[0])
    for dtype, relative, agrees in (
        (np.float32, 5e-7, True), (np.float32, 2e-5, False),
        (np.float64, 1e-15, True), (np.float64, 5e-7, False),
    ):  # fmt: skip
        claim = np.asarray(loss * (1 + relative), dtype)
        result = compare(LOGITS.astype(dtype), LABELS, loss=claim, backends=())
        assert result.claims[0].agrees == agrees, (dtype, relative)


def test_digits_of_a_typed_number() -> None:
    loss = float(BOTH(LOGITS, LABELS)[0])
    assert compare(LOGITS, LABELS, loss=f"{loss:.4f}", backends=()).agrees
    assert not compare(LOGITS, LABELS, loss=f"{loss + 1e-3:.4f}", backends=()).agrees


# Rules, by numbers worked out here


def rows() -> Any:
    return np.asarray(xp_xent.cross_entropy(LOGITS, LABELS, reduction="none"), np.float64)


def test_one_number_is_enough_for_a_rule_without_options() -> None:
    counted = LABELS != -100
    for rule, loss in (
        ("reduction-sum", rows().sum()),
        ("mean-over-all-positions", rows().mean()),
        ("bits", rows().sum() / counted.sum() / np.log(2)),
    ):
        result = compare(LOGITS, LABELS, loss=np.float32(loss), backends=())
        assert rules_of(result)[0] == [(rule, {})], result


def test_sequences_of_different_lengths() -> None:
    labels = np.where(np.arange(20) < [[5], [11], [19]], LABELS.clip(0), -100)
    each = xp_xent.cross_entropy(LOGITS, labels, reduction="none")
    loss = np.mean(each.sum(1) / (labels != -100).sum(1))
    result = compare(LOGITS, labels, loss=np.float32(loss), backends=())
    assert rules_of(result) == [[("mean-of-sequence-means", {})]]


def test_an_option_is_fitted_to_more_numbers_than_it_has_freedom() -> None:
    """Of one number alone an unusual value would be a guess."""
    wrong = BOTH(LOGITS, LABELS, label_smoothing=0.1234)
    result = compare(LOGITS, LABELS, loss=wrong[0], gradient=wrong[1], backends=())
    expected = ("smoothing", {"label_smoothing": 0.1234, "smoothing": "uniform"})
    assert rules_of(result)[0] == [expected]
    assert rules_of(compare(LOGITS, LABELS, loss=wrong[0], backends=())) == []


def narrowed(x: Any, dtype: str = "bfloat16") -> Any:
    """Round to bfloat16, and keep the dtype."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16").bfloat16
    return np.asarray(x).astype(dtype).astype(np.asarray(x).dtype)


@pytest.mark.parametrize(
    "option",
    [
        ("smoothing", {"label_smoothing": 0.137, "smoothing": "uniform"}),
        ("temperature", {"temperature": 1.37}), ("softcap", {"softcap": 13.7}),
        ("z-loss", {"z_loss": 0.0137}),
    ],
    ids=lambda option: option[0],
)  # fmt: skip
@pytest.mark.parametrize("what", ["logits and their gradient", "loss"])
def test_an_option_is_fitted_to_rounded_numbers(what: str, option: Any) -> None:
    """A staircase has no slope, but what is below it has one."""
    if what == "loss":
        each = xp_xent.cross_entropy(LOGITS, LABELS, reduction="none", **option[1])
        result = compare(LOGITS, LABELS, loss=narrowed(each), backends=())
    else:
        loss, gradient = BOTH(narrowed(LOGITS), LABELS, **option[1])
        result = compare(LOGITS, LABELS, loss=loss, gradient=narrowed(gradient), backends=())
    rounding = ("rounded", {"dtype": "bfloat16", "what": what})
    assert [option, rounding] in rules_of(result), result


def test_numbers_of_a_narrow_format_that_no_rule_gives() -> None:
    """What rounding allows is wide: numbers that are off by a percent are not explained by it."""
    noise = 1 + 1e-2 * np.random.default_rng(5).standard_normal(LOGITS.shape, dtype=np.float32)
    each = np.asarray(xp_xent.cross_entropy(LOGITS, LABELS, reduction="none", temperature=1.37))
    gradient = BOTH(narrowed(LOGITS), LABELS, temperature=1.37)[1] * noise
    for claims in (
        {"loss": narrowed(each * noise[..., 0])}, {"gradient": narrowed(gradient)},
        {"loss": narrowed(each) * noise[..., 0]}, {"gradient": gradient},
    ):  # fmt: skip
        assert rules_of(compare(LOGITS, LABELS, backends=(), **claims)) == []


@pytest.mark.parametrize("first", [True, False], ids=["rounded-first", "scaled-first"])
@pytest.mark.parametrize("factor", [1024.0, 3.7])
def test_a_scale_beside_a_rounding(factor: float, first: bool) -> None:
    """Below the smallest normal of float16 it matters which of the two came first."""
    half = narrowed(LOGITS, "float16")
    loss, gradient = BOTH(half, LABELS)
    small = np.float32(factor)
    gradient = (
        narrowed(gradient, "float16") * small if first else narrowed(gradient * small, "float16")
    )
    result = compare(LOGITS, LABELS, loss=loss, gradient=gradient, backends=())
    expected = [
        ("gradient-scale", {"factor": factor}),
        ("rounded", {"dtype": "float16", "what": "logits and their gradient"}),
    ]
    assert expected in rules_of(result, 1), result
    assert expected in rules_of(result, 0)


def test_a_scale_beside_a_softmax_over_another_axis() -> None:
    """Each entry of the gradient is of a whole column's targets, and may err as these do."""
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal((2000, 5)) * 8, rng.integers(0, 5, 2000)
    over_rows = xp_xent.softmax(logits, axis=0)
    hot = np.eye(5)[labels]
    gradient = (over_rows * hot.sum(0) - hot) / 2000
    loss = -np.mean(np.log(over_rows[np.arange(2000), labels]))
    result = compare(logits, labels, loss=loss, gradient=gradient * 0.125, backends=())
    assert [("class-axis", {"axis": 0}), ("gradient-scale", {"factor": 0.125})] in rules_of(result)


def test_a_usual_value_is_found_from_one_number() -> None:
    loss = xp_xent.cross_entropy(LOGITS, LABELS, z_loss=1e-4)
    assert rules_of(compare(LOGITS, LABELS, loss=loss, backends=()))[0] == [
        ("z-loss", {"z_loss": 1e-4})
    ]


@pytest.mark.parametrize(
    ("asked", "done", "rule"),
    [
        ({"label_smoothing": 0.1}, {}, ("smoothing", {"label_smoothing": 0.0})),
        ({"z_loss": 1e-2}, {}, ("z-loss", {"z_loss": 0.0})),
        ({"softcap": 5.0}, {}, ("softcap", {"softcap": None})),
        ({"temperature": 2.0}, {}, ("temperature", {"temperature": 1.0})),
        ({"temperature": 2.0}, {"temperature": 0.5}, ("temperature", {"temperature": 0.5})),
        ({"reduction": "sum"}, {}, ("reduction-mean", {})),
        ({"weight": np.linspace(0.5, 2.0, 7)}, {}, ("class-weights-missing", {})),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else None,
)
def test_what_was_left_out(asked: Any, done: Any, rule: Any) -> None:
    loss, gradient = BOTH(LOGITS, LABELS, **done)
    result = compare(LOGITS, LABELS, loss=loss, gradient=gradient, backends=(), **asked)
    assert rules_of(result)[0] == [rule], result


def test_denominator_weights() -> None:
    weight = np.linspace(0.5, 2.0, 7)
    count = float((LABELS != -100).sum())
    loss, gradient = BOTH(LOGITS, LABELS, weight=weight)
    options = {"weight": weight, "normalizer": count}
    result = compare(LOGITS, LABELS, loss=loss, gradient=gradient, backends=(), **options)
    assert [("denominator-weights", {})] in rules_of(result)


def test_tokens_shifted_twice_and_not_at_all() -> None:
    tokens = RNG.integers(0, 7, (3, 20))
    twice = xp_xent.cross_entropy(LOGITS[:, :-2], tokens[:, 2:])
    result = compare(
        LOGITS, tokens, loss=twice, loss_function="next_token_cross_entropy", backends=()
    )
    assert rules_of(result)[0] == [("shift", {})]
    own = xp_xent.cross_entropy(LOGITS, tokens)
    result = compare(
        LOGITS, tokens, loss=own, loss_function="next_token_cross_entropy", backends=()
    )
    assert rules_of(result)[0] == [("shift", {})]


def test_binary() -> None:
    logits, targets = LOGITS[..., 0], (LABELS > 2).astype(np.float32)
    both = xp_xent.value_and_grad(xp_xent.binary_cross_entropy_with_logits)
    options: dict[str, Any] = {"loss_function": "binary_cross_entropy_with_logits"}
    for more in ({}, {"pos_weight": np.float32(3.0)}, {"weight": RNG.random((3, 20))}):
        loss, gradient = both(logits, targets, **more)
        assert compare(logits, targets, loss=loss, gradient=gradient, **options, **more).agrees
    loss, gradient = both(logits, targets, reduction="sum")
    result = compare(logits, targets, loss=loss, gradient=gradient, backends=(), **options)
    assert rules_of(result)[0] == [("reduction-sum", {})]


# Where rules end


def test_unexplained_with_the_rows_that_differ_most() -> None:
    loss = rows().astype(np.float32)
    loss[2, 3] *= 1.7
    loss[0, 1] *= 1.2
    result = compare(LOGITS, LABELS, loss=loss, backends=())
    claim = result.claims[0]
    assert not claim.agrees
    assert claim.explanations == ()
    assert {row.row for row in claim.rows} == {(2, 3), (0, 1)}
    assert "unexplained" in str(result)


def test_rows_of_nan_and_infinity_are_named() -> None:
    logits = LOGITS.copy()
    logits[0, 17] = np.nan  # does not count
    result = compare(logits, LABELS, loss=np.float32(np.nan), backends=())
    (row,) = result.claims[0].rows
    assert row.row == (0, 17)
    assert "NaN" in row.why
    loss = rows().astype(np.float32)
    loss[1, 2] = np.inf
    loss /= np.float32(np.log(2))
    result = compare(LOGITS, LABELS, loss=loss, backends=())
    assert [row.row for row in result.claims[0].rows] == [(1, 2)]
    assert rules_of(result) == [[("bits", {})]]  # of the other rows


def test_ties_are_named() -> None:
    """Of the sum of rows and the gradient of each, two explanations are the same numbers."""
    loss, gradient = BOTH(LOGITS, LABELS, reduction="sum")
    result = compare(LOGITS, LABELS, loss=rows(), gradient=gradient, backends=())
    assert [[rule for rule, _ in one] for one in rules_of(result, 1)] == [
        ["reduction-sum"], ["gradient-scale"],
    ]  # fmt: skip
    assert loss
