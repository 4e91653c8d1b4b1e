"""Sound maps in extended precision, whose steps can be spoiled one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from _sound import Array, Call, CrossEntropy, Odds, sigmoid, softplus, wide


class Map:
    """Value and pulled-back cotangent of a map, both in the dtype of x."""

    function = ""

    def __call__(
        self, x: Array, /, *, axis: int = -1, cotangent: Array = None
    ) -> tuple[Array, Array]:
        self.compute = np.float64 if x.dtype == np.float64 else np.float32
        with np.errstate(all="ignore"):
            value, gradient = self.solve(x, axis, cotangent)
        through = (np.asarray(y, np.float64).astype(x.dtype) for y in (value, gradient))
        return next(through), next(through)

    def solve(self, x: Array, axis: int, cotangent: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def narrow(self, x: Array) -> Array:
        """Round to the dtype that a computation has."""
        return np.asarray(x, np.float64).astype(self.compute)


class RowMap(Map):
    """A map of rows."""

    def solve(self, x: Array, axis: int, cotangent: Array) -> tuple[Array, Array]:
        axis = self.axis_of(axis)
        moved = np.moveaxis(x, axis, -1)
        z = wide(moved).reshape(-1, moved.shape[-1])
        odds, broken = CrossEntropy().odds(z, Call()), CrossEntropy().broken(z, Call())
        value = self.value(z, odds, broken)
        single = value.shape[-1] == 1 != z.shape[-1] or self.function == "logsumexp"
        if cotangent is None:
            c = np.ones_like(value)
        else:
            c = wide(cotangent if single else np.moveaxis(cotangent, axis, -1))
        gradient = self.gradient(z, odds, self.upstream(c.reshape(value.shape)), broken)
        gradient = np.moveaxis(gradient.reshape(moved.shape), -1, axis)
        if single:
            return value.reshape(moved.shape[:-1]), gradient
        return np.moveaxis(value.reshape(moved.shape), -1, axis), gradient

    def axis_of(self, axis: int) -> int:
        return axis

    def upstream(self, c: Array) -> Array:
        return c

    def value(self, z: Array, odds: Odds, broken: Array) -> Array:
        return np.where(broken[:, None], np.nan, self.row(z, odds))

    def gradient(self, z: Array, odds: Odds, c: Array, broken: Array) -> Array:
        return np.where(broken[:, None], np.nan, self.pull(z, odds, c))

    def row(self, z: Array, odds: Odds) -> Array:
        raise NotImplementedError

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        raise NotImplementedError


class Softmax(RowMap):
    """The probabilities."""

    function = "softmax"

    def row(self, z: Array, odds: Odds) -> Array:
        return odds.p

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        return odds.p * (c * odds.miss - CrossEntropy.without_own(c * odds.p))


class LogSoftmax(RowMap):
    """Their logarithms."""

    function = "log_softmax"

    def row(self, z: Array, odds: Odds) -> Array:
        return -odds.surprise

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        return c * odds.miss - odds.p * CrossEntropy.without_own(c)


class LogSumExp(RowMap):
    """The logarithm of the sum."""

    function = "logsumexp"

    def value(self, z: Array, odds: Odds, broken: Array) -> Array:
        top = np.max(z, axis=-1, keepdims=True)
        return np.where(np.isinf(top), top, self.row(z, odds))

    def gradient(self, z: Array, odds: Odds, c: Array, broken: Array) -> Array:
        nothing = np.all(z == -np.inf, axis=-1, keepdims=True)
        return np.where(nothing, 0, super().gradient(z, odds, c, broken))

    def row(self, z: Array, odds: Odds) -> Array:
        return odds.lse

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        return c * odds.p


class Sigmoid(Map):
    """1/(1 + exp(−x))."""

    function = "sigmoid"

    def solve(self, x: Array, axis: int, cotangent: Array) -> tuple[Array, Array]:
        z = wide(x)
        return self.value(z), (1 if cotangent is None else wide(cotangent)) * self.slope(z)

    def value(self, z: Array) -> Array:
        return sigmoid(z)

    def slope(self, z: Array) -> Array:
        return sigmoid(z) * sigmoid(-z)


class LogSigmoid(Sigmoid):
    """Its logarithm."""

    function = "log_sigmoid"

    def value(self, z: Array) -> Array:
        return -softplus(-z)

    def slope(self, z: Array) -> Array:
        return sigmoid(-z)


SOUND_MAPS: tuple[type[Any], ...] = (Softmax, LogSoftmax, LogSumExp, Sigmoid, LogSigmoid)
