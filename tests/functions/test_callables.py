"""What `value_and_grad` and its relatives return: compared, pickled, compiled."""

from __future__ import annotations

import copy
import inspect
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import CrossEntropyLoss, cross_entropy

RNG = np.random.default_rng(17)
LOGITS, LABELS = RNG.normal(size=(8, 3)) * 2, np.array([0, 2, 1, 1, 0, 2, -100, 1])
MAKERS = [
    xp_xent.value_and_grad,
    xp_xent.hvp,
    xp_xent.hessian_diagonal,
    xp_xent.hessian,
    xp_xent.value_grad_and_hessian_diagonal,
]
OF_LOSSES = [
    cross_entropy,
    CrossEntropyLoss(z_loss=1e-4),
    partial(cross_entropy, reduction="sum", axis=0),
    partial(partial(cross_entropy, z_loss=0.5), reduction="none"),
]


class TestDerivatives:
    """What `value_and_grad` and its relatives return."""

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("loss", OF_LOSSES)
    def test_pickled_and_compared(self, make: Any, loss: Any) -> None:
        made = make(loss)
        for same in (make(loss), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
            assert made == same
            assert hash(made) == hash(same)
            assert repr(made) == repr(same)
        others = [make(other) for other in OF_LOSSES if other is not loss]
        others += [other(loss) for other in MAKERS if other is not make]
        assert made not in others
        assert made != loss
        if "hvp" not in repr(made) and loss is not OF_LOSSES[2]:
            got = pickle.loads(pickle.dumps(made))(LOGITS, LABELS)
            for one, want in zip(got, made(LOGITS, LABELS), strict=True):
                assert np.array_equal(one, want)

    def test_settings(self) -> None:
        make = xp_xent.value_and_grad
        given = (0, "logits", (0,), np.int64(0), (0, 1), (0, np.int8(1)))
        assert len({make(cross_entropy, x) for x in given}) == 4
        make = xp_xent.value_grad_and_hessian_diagonal
        assert make(cross_entropy) != make(cross_entropy, "upper_bound")
        assert repr(make(cross_entropy)).endswith("(cross_entropy, curvature='diagonal')")
        assert repr(xp_xent.hvp(CrossEntropyLoss())).startswith("hvp(CrossEntropyLoss(axis=-1")

    def test_kinds_of_one_are_different(self) -> None:
        made = [xp_xent.hvp(partial(cross_entropy, z_loss=x)) for x in (0, 0.0, False)]
        assert len(set(made)) == 3

    def test_arrays_by_identity(self) -> None:
        """As Python's own partial: a hash there is, for a compiler's cache."""
        weight = np.ones(3)
        made, same = (xp_xent.hessian(partial(cross_entropy, weight=weight)) for _ in range(2))
        assert made == same
        assert hash(made) == hash(same)
        assert made != xp_xent.hessian(partial(cross_entropy, weight=weight.copy()))

    def test_signature(self) -> None:
        loss = partial(cross_entropy, axis=0)
        found = {make: inspect.signature(make(loss)).parameters for make in MAKERS}
        for parameters in found.values():
            assert parameters["axis"].default == 0
            assert parameters["z_loss"].default == 0.0
            assert list(parameters)[:2] == ["logits", "targets"]
        assert "cotangent" in found[xp_xent.value_and_grad]
        assert list(found[xp_xent.hvp])[2] == "vector"
        bound = inspect.signature(xp_xent.hessian(partial(cross_entropy, LOGITS)))
        assert next(iter(bound.parameters)) == "targets"

    def test_static_under_jit(self) -> None:
        """Equal ones share what is compiled."""
        jax = pytest.importorskip("jax")
        traced = []

        def call(made: Any, z: Any, y: Any) -> Any:
            traced.append(made)
            return made(z, y)

        jitted = jax.jit(call, static_argnums=0)
        arrays = jax.numpy.asarray(LOGITS), jax.numpy.asarray(LABELS)
        for loss in (cross_entropy, cross_entropy, partial(cross_entropy, z_loss=0.1)):
            value, _ = jitted(xp_xent.value_and_grad(loss), *arrays)
            assert np.isfinite(value)
        assert len(traced) == 2
        weight = jax.numpy.ones(3)
        value, _ = jax.jit(xp_xent.value_and_grad(partial(cross_entropy, weight=weight)))(*arrays)
        assert np.isfinite(value)
