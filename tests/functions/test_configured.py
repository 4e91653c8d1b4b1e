"""`CrossEntropyLoss` and `BCEWithLogitsLoss`: values, and the functions they stand for."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from _tools import call, error_of

import xp_xent
from xp_xent import BCEWithLogitsLoss, CrossEntropyLoss, cross_entropy
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent.backends import Adapter

RNG = np.random.default_rng(17)
LOGITS, LABELS = RNG.normal(size=(8, 3)) * 2, np.array([0, 2, 1, 1, 0, 2, -100, 1])
TARGETS = RNG.random((8, 3))
OBJECTS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(axis=0, ignore_index=None, label_smoothing=0.1, smoothing="others"),
    CrossEntropyLoss(z_loss=1e-4, softcap=30.0, reduction="sum"),
    BCEWithLogitsLoss(),
    BCEWithLogitsLoss(label_smoothing=0.1, reduction="none"),
]


class TestConfiguredLosses:
    @pytest.mark.parametrize("criterion", OBJECTS, ids=repr)
    def test_a_value_among_values(self, criterion: Any) -> None:
        """Frozen, hashable, and the same after a copy, a pickle, or being printed and read."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            criterion.reduction = "none"
        names = {"CrossEntropyLoss": CrossEntropyLoss, "BCEWithLogitsLoss": BCEWithLogitsLoss}
        for same in (
            copy.deepcopy(criterion),
            pickle.loads(pickle.dumps(criterion)),
            eval(repr(criterion), names),
        ):
            assert same == criterion
            assert hash(same) == hash(criterion)
        assert sum(criterion == other for other in OBJECTS) == 1

    def test_weights_take_part(self) -> None:
        one, same, other, none = (
            CrossEntropyLoss(weight=w) for w in (np.ones(3), np.ones(3), np.arange(3.0), None)
        )
        assert one == same
        assert hash(one) == hash(same)
        assert one not in (other, none)
        assert CrossEntropyLoss(weight=np.ones(3, np.float32)) != one
        assert pickle.loads(pickle.dumps(one)) == one
        assert CrossEntropyLoss() != BCEWithLogitsLoss()

    def test_is_the_function(self, backend: Adapter) -> None:
        weight = np.array([1.0, 2.0, 0.5])
        how: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 9.0}
        sent = backend.asarray(weight)
        criterion = CrossEntropyLoss(weight=sent, **how)
        want = call(backend, "float64", cross_entropy, LOGITS, LABELS, weight=weight, **how)
        assert np.array_equal(call(backend, "float64", criterion, LOGITS, LABELS), want)
        binary = BCEWithLogitsLoss(pos_weight=sent, reduction="sum")
        want = call(backend, "float64", bce, LOGITS, TARGETS, pos_weight=weight, reduction="sum")
        assert np.array_equal(call(backend, "float64", binary, LOGITS, TARGETS), want)

    def test_options_of_a_call(self, backend: Adapter) -> None:
        """What belongs to a batch is given with it, and what is given comes first."""
        how: dict[str, Any] = {"where": LABELS > 0, "sample_weight": RNG.random(8)}
        got = call(backend, "float64", CrossEntropyLoss(reduction="sum"), LOGITS, LABELS, **how)
        want = call(backend, "float64", cross_entropy, LOGITS, LABELS, reduction="sum", **how)
        assert np.array_equal(got, want)
        rows = CrossEntropyLoss()(
            backend.asarray(LOGITS), backend.asarray(LABELS), reduction="none"
        )
        assert tuple(rows.shape) == (8,)

    def test_derivatives(self, backend: Adapter) -> None:
        for criterion, function, targets in (
            (CrossEntropyLoss(label_smoothing=0.1), cross_entropy, LABELS),
            (BCEWithLogitsLoss(label_smoothing=0.1), bce, TARGETS),
        ):
            for of in (xp_xent.value_and_grad, xp_xent.hessian_diagonal):
                got = call(backend, "float64", of(criterion), LOGITS, targets)
                want = call(backend, "float64", of(function), LOGITS, targets, label_smoothing=0.1)
                for one, two in zip(np.atleast_1d(got[0]), np.atleast_1d(want[0]), strict=True):
                    assert np.array_equal(one, two)

    def test_wrong_options_are_named(self) -> None:
        assert "bogus" in str(error_of(CrossEntropyLoss, bogus=1))
        criterion = lambda: CrossEntropyLoss(reduction="avg")(LOGITS, LABELS)  # noqa: E731
        assert "reduction" in str(error_of(criterion))
