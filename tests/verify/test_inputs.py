"""`xp_xent.verify.compare`: inputs that differ, do not fit, or are large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _wrong_data import Data, make

import xp_xent
from xp_xent.verify import BadInput, compare
from xp_xent.verify._rules import RULES

RNG = np.random.default_rng(31)
LOGITS = (RNG.normal(size=(3, 20, 7)) * 3).astype(np.float32)
LABELS = RNG.integers(0, 7, (3, 20))
LABELS[:, 15:] = -100
BOTH = xp_xent.value_and_grad(xp_xent.cross_entropy)


def rows() -> Any:
    return np.asarray(xp_xent.cross_entropy(LOGITS, LABELS, reduction="none"), np.float64)


def rules_of(result: Any, claim: int = 0) -> list[list[tuple[str, Any]]]:
    return [list(one.rules) for one in result.claims[claim].explanations]


def side(logits: Any, labels: Any, **options: Any) -> dict[str, Any]:
    loss, gradient = BOTH(logits, labels, **options)
    return {"loss": loss, "gradient": gradient, "logits": logits, "targets": labels}


def test_logits_that_were_rounded_are_the_answer() -> None:
    own = LOGITS.copy()
    own[1:] = own[1:].astype(np.float16)
    result = compare(LOGITS, LABELS, sides={"torch": side(own, LABELS)}, backends=())
    (found,) = result.inputs
    assert (found.first, found.rounded, found.agrees) == ((1, 0), "float16", False)
    assert "from row [1, 0] on" in str(found)
    claim = result.claims[0]
    assert not claim.agrees
    assert claim.inputs == ("logits.torch",)
    assert [one.rules for one in claim.explanations] == [()]


def test_a_rule_on_top_of_other_inputs() -> None:
    own = side(
        LOGITS + np.float32(0.25) * RNG.random(7).astype(np.float32), LABELS, reduction="sum"
    )
    result = compare(LOGITS, LABELS, sides={"jax": own}, backends=())
    assert rules_of(result)[0] == [("reduction-sum", {})]
    assert result.claims[0].inputs == ("logits.jax",)


def test_logits_that_differ_by_rounding_agree() -> None:
    own = np.nextafter(LOGITS, np.float32(np.inf))
    result = compare(LOGITS, LABELS, sides={"jax": side(own, LABELS)}, backends=())
    assert result.agrees, result
    assert "rounding" in str(result.inputs[0])


def test_labels_that_differ() -> None:
    own = np.where(LABELS == -100, -1, LABELS)
    given = side(LOGITS, own, ignore_index=-1)
    sides = {"a": given | {"targets": own}}
    common = np.where(LABELS == -100, 0, LABELS)
    result = compare(LOGITS, common, sides=sides, ignore_index=-1, backends=())
    assert "it has -1 for 0" in str(result.inputs[0])


PART = (RNG.random((3, 20, 7)) < 0.7) | (np.arange(7) == LABELS[..., None])


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("cross_entropy", {}), ("cross_entropy", {"label_smoothing": 0.1}),
        ("cross_entropy", {"softcap": 4.0}), ("nll_loss", {}),
        ("nll_loss", {"label_smoothing": 0.1, "smoothing": "others"}),
        ("next_token_cross_entropy", {"label_smoothing": 0.1, "temperature": 2.0}),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)  # fmt: skip
def test_classes_that_take_no_part(loss: str, options: dict[str, Any]) -> None:
    """They may hold NaN; a label among them costs infinitely much, and a rule is still found."""
    part = PART | (np.arange(7) == 0)
    logits, labels = np.where(part, LOGITS.astype(np.float64), np.nan), LABELS
    if loss == "next_token_cross_entropy":
        labels = np.roll(LABELS.clip(0), 1, axis=1)
    if loss == "nll_loss":
        logits = np.where(part, xp_xent.log_softmax(LOGITS.astype(np.float64)), np.nan)
    options = options | {"class_where": part}
    both = xp_xent.value_and_grad(getattr(xp_xent, loss))
    value, slopes = both(logits, labels, **options)
    more: dict[str, Any] = {"loss_function": loss, "backends": ("numpy",)}
    result = compare(logits, labels, loss=value, gradient=slopes, **options, **more)
    assert result.agrees, result
    value, slopes = both(logits, labels, reduction="sum", **options)
    result = compare(logits, labels, loss=value, gradient=slopes, **options, **more)
    assert rules_of(result)[0] == [("reduction-sum", {})], result
    assert rules_of(result, 1)[0] == [("reduction-sum", {})]
    where = part & (np.arange(7) != 3)
    options = options | {"class_where": where, "reduction": "none"}
    value, slopes = both(logits, labels, **options)
    assert np.isinf(value).any()
    result = compare(logits, labels, loss=value, gradient=slopes, **options, **more)
    assert result.agrees, result


def test_a_side_with_another_mask_of_classes() -> None:
    own = PART.copy()
    own[1:, 4] = True
    loss, gradient = BOTH(LOGITS, LABELS, class_where=own)
    sides = {"torch": {"loss": loss, "gradient": gradient, "class_where": own}}
    result = compare(LOGITS, LABELS, sides=sides, class_where=PART, backends=())
    (found,) = result.inputs
    assert (found.array, found.rows, found.first) == ("class_where", 2, (1, 4))
    assert "class_where.torch differs in 2 of 60 rows, first in [1, 4]" in str(found)
    assert result.claims[0].inputs == ("class_where.torch",)
    assert [one.rules for one in result.claims[0].explanations] == [()]
    same = {"torch": sides["torch"] | {"class_where": PART.copy()}}
    assert not compare(LOGITS, LABELS, sides=same, class_where=PART, backends=()).inputs


@pytest.mark.parametrize("shape", [(7,), (20, 7), (3, 1, 7), (3, 20, 1)], ids=str)
def test_a_mask_of_classes_is_walked(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large arrays backends are asked for rows, and the library sees two positions."""
    from xp_xent.verify import _own, _problem

    monkeypatch.setattr(_own, "WHOLE", 0)
    monkeypatch.setattr(_problem, "LOOKED_AT", 0)
    mask = np.random.default_rng(8).random(shape) < 0.8
    options = {"class_where": mask, "reduction": "none", "label_smoothing": 0.1}
    loss, gradient = BOTH(LOGITS, LABELS, **options)
    for given in (mask, mask * 1):
        options["class_where"] = given
        assert compare(LOGITS, LABELS, loss=loss, gradient=gradient, **options).agrees


def test_arrays_of_other_libraries() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 7), torch.tensor(LABELS).reshape(-1)
    )
    loss.backward()
    result = compare(logits, torch.tensor(LABELS), loss=loss, gradient=logits.grad,
                     backends=("numpy", "torch"))  # fmt: skip
    assert result.agrees, result
    assert len(result.backends) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradient": LOGITS[0]}, "gradient: got float32"),
        ({"loss": rows()[0]}, "loss: got shape"),
        ({"loss": "two"}, "wanted a number"),
        ({"loss_function": "hinge"}, "loss function: got 'hinge'"),
        ({"label_smoothing": 2.0}, "label_smoothing"),
        ({"class_where": PART[:2]}, "class_where: got shape"),
        ({"class_where": PART * 1.0}, "class_where: got dtype"),
        ({"sides": {"a": {"class_where": PART[0, :3]}}}, "class_where.a: got shape"),
        ({"sides": {"a": {"logits": LOGITS[:1]}}}, "logits.a"),
        ({"sides": {"a": {"targets": LABELS + 50}}}, "targets.a"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        compare(LOGITS, LABELS, **{"backends": (), **change})


def test_large_arrays_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With small limits: blocks, backends asked for rows, a sample, and float64 for most rows."""
    from xp_xent.verify import _case, _evidence, _own, _truth

    small = make("text", "large", "float32")
    for module, name, value in (
        (_case, "BLOCK", 1 << 9), (_own, "WHOLE", 0), (_evidence, "SAMPLE", 1 << 10),
        (_truth, "LARGEST", 100),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    loss, gradient = BOTH(small.logits, small.targets, reduction="sum", **small.options)
    result = compare(small.logits, small.targets, loss=loss, gradient=gradient, **small.options)
    assert result.method.startswith("float64 pairs")
    assert result.backends[0].agrees
    assert rules_of(result)[0] == [("reduction-sum", {})]
    alone = compare(small.logits, small.targets, loss=loss, backends=(), **small.options)
    assert rules_of(alone) == [[("reduction-sum", {})]]


def test_all_rows_are_asked_for_what_samples_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample of more rows leaves fewer pipelines whose number takes a pass over the logits."""
    from xp_xent.verify import _evidence
    from xp_xent.verify._predict import Predictor

    rng = np.random.default_rng(4)
    logits, labels = (
        (rng.standard_normal((4000, 5)) * 3).astype(np.float32),
        rng.integers(0, 5, 4000),
    )
    claim = np.float32(1.037) * xp_xent.cross_entropy(logits, labels)
    asked: list[Any] = []
    number = Predictor.number
    monkeypatch.setattr(_evidence, "SAMPLE", 1 << 8)
    monkeypatch.setattr(Predictor, "number", lambda self, p: asked.append(p) or number(self, p))
    counts = []
    for more in (2, 1000):
        monkeypatch.setattr(_evidence, "MORE", more)
        asked.clear()
        assert rules_of(compare(logits, labels, loss=claim, backends=())) == []
        counts.append(len(asked))
    assert counts[0] < 0.7 * counts[1]
    right = xp_xent.cross_entropy(logits, labels, z_loss=1e-4, temperature=2.0)
    expected = [("temperature", {"temperature": 2.0}), ("z-loss", {"z_loss": 1e-4})]
    assert expected in rules_of(compare(logits, labels, loss=right, backends=()))


def test_one_number_beside_an_infinite_loss() -> None:
    """It tells nothing apart, so that no rule is named."""
    labels, options = np.arange(4), {"class_where": np.array([True, True, True, False])}
    off = compare(RNG.normal(size=(4, 4)), labels, loss=0.5, backends=(), **options)
    assert not off.agrees
    assert rules_of(off) == []
    assert compare(np.zeros((4, 4)), labels, loss=np.inf, backends=(), **options).agrees


def test_data_is_what_it_says() -> None:
    assert isinstance(make("two", "small", "float32"), Data)
    assert {"reduction-sum", "rounded"} <= set(RULES)
