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
        ({"sides": {"a": {"logits": LOGITS[:1]}}}, "logits.a"),
        ({"sides": {"a": {"targets": LABELS + 50}}}, "targets.a"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        compare(LOGITS, LABELS, **{"backends": (), **change})


def test_large_arrays_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With small limits: blocks, backends asked for rows, a sample, and float64 for most rows."""
    from xp_xent.verify import _case, _claims, _own, _truth

    small = make("text", "large", "float32")
    for module, name, value in (
        (_case, "BLOCK", 1 << 9), (_own, "WHOLE", 0), (_claims, "SAMPLE", 1 << 10),
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


def test_data_is_what_it_says() -> None:
    assert isinstance(make("two", "small", "float32"), Data)
    assert {"reduction-sum", "rounded"} <= set(RULES)
