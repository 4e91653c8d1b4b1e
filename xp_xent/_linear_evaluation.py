"""Evaluating a cross-entropy behind a linear layer, some rows at a time.

For features X (N, D), a classifier W (K, D) and G = ∂L/∂(logits), which is (N, K) and exists only
for the rows of one step:

    ∂L/∂X = G W        ∂L/∂W = Gᵀ X        ∂L/∂bias = Σ_rows G
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xp_xent import _checks as check
from xp_xent._evaluation import run
from xp_xent._reduction import Reduction
from xp_xent._rows import Rows

Array = Any

# Logits of one step, 34 MB in float32: large enough for the matrix products, which add to the whole
# of the classifier's gradient in each; small beside what they save.
STEP = 1 << 23


@dataclass(frozen=True)
class Layer:
    """A linear layer in the loss's dtype; its features are (..., D)."""

    backend: Any
    features: Array
    classifier: Array
    bias: Array | None
    weights: Array  # the classifier in the loss's dtype
    dtype: Any

    def widened(self, array: Array) -> Array:
        """Convert to the loss's dtype."""
        return self.backend.cast(array, self.dtype)

    def flat(self, features: Array) -> Array:
        """View features (..., D) as (n, D)."""
        *rows, size = features.shape
        # Of no elements, the rows cannot be told from the rest.
        return self.backend.xp.reshape(features, (-1 if size else math.prod(rows), size))

    def forward(self, features: Array) -> Array:
        """Multiply features (n, D) to (n, K), without the bias."""
        return self.backend.xp.matmul(features, self.backend.xp.matrix_transpose(self.weights))

    def logits(self, features: Array) -> Array:
        """Give the logits (n, K) of features (n, D)."""
        logits = self.forward(features)
        return logits if self.bias is None else logits + self.widened(self.bias)[None, :]

    def by_features(self, slope: Array) -> Array:
        """Carry a derivative by the logits back to the features, in their dtype."""
        found = self.backend.xp.matmul(slope, self.weights)
        return self.backend.cast(found, self.features.dtype)


@dataclass(frozen=True)
class LinearEvaluation:
    """The evaluation of a cross-entropy behind a linear layer."""

    backend: Any
    kernel: Any
    rows: Rows  # without logits
    reduction: Reduction
    layer: Layer

    arguments = ("features", "classifier", "targets")
    variables = ("features", "classifier", "bias")
    stepwise = True

    def value(self) -> Array:
        """Give the reduced loss."""

        def step(total: Any, features: Array, rows: Rows) -> tuple[Any, tuple[Array, ...]]:
            rows = rows._replace(logits=self.layer.logits(features))
            return total, (run(self.backend, self.kernel, "value", rows),)

        _, (losses,) = self._walk(step, ())
        return self._reduced(losses)

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Give the reduced loss, and its derivative by each of the arguments named."""
        self._check(wrt)
        xp, layer, kernel, backend = self.backend.xp, self.layer, self.kernel, self.backend

        def step(
            totals: dict[str, Array], features: Array, rows: Rows, factor: Array
        ) -> tuple[dict[str, Array], tuple[Array, ...]]:
            rows, out = rows._replace(logits=layer.logits(features)), {}
            losses = slope = None
            if "targets" in wrt:
                method = "value_and_target_gradient"
                losses, out["targets"] = run(backend, kernel, method, rows, factor)
            if set(wrt) - {"targets"}:
                method = "value_and_gradient"
                losses, slope = run(backend, kernel, method, rows, factor, logits_needed=False)
            if "features" in wrt:
                out["features"] = layer.by_features(slope)
            if "classifier" in wrt:
                total = backend.add_product_(totals["classifier"], slope, features)
                totals = totals | {"classifier": total}
            if "bias" in wrt:
                totals = totals | {"bias": totals["bias"] + xp.sum(slope, axis=0)}
            return totals, (losses, *(out[name] for name in wrt if name in out))

        size = {"classifier": tuple(layer.weights.shape), "bias": (layer.weights.shape[0],)}
        totals = {
            name: backend.full(shape, 0.0, layer.dtype, like=layer.weights)
            for name, shape in size.items()
            if name in wrt
        }
        totals, (losses, *by_row) = self._walk(step, totals, self._factor(cotangent))
        found = {
            name: backend.cast(total, getattr(layer, name).dtype) for name, total in totals.items()
        }
        arrays: dict[str, Array] = {"features": layer.features, "targets": self.rows.probabilities}
        for name, gradient in zip((n for n in wrt if n in arrays), by_row, strict=True):
            found[name] = xp.reshape(gradient, arrays[name].shape)
        return self._reduced(losses), tuple(found[name] for name in wrt)

    def hvp(self, vector: Array, cotangent: Any = None) -> Array:
        """Give the Hessian of the reduced loss by the features, times a vector."""
        features = self.layer.features
        check.floating("vector", vector)
        check.shape("vector", vector, tuple(features.shape), "the features'")

        def step(
            total: Any, features: Array, rows: Rows, factor: Array, vector: Array
        ) -> tuple[Any, tuple[Array, ...]]:
            rows = rows._replace(logits=self.layer.logits(features))
            along = self.layer.forward(self.layer.widened(vector))
            slope = run(self.backend, self.kernel, "hvp", rows, factor, along)
            return total, (self.layer.by_features(slope),)

        along = self.layer.flat(vector)
        _, (found,) = self._walk(step, (), self._factor(cotangent), along)
        return self.backend.xp.reshape(found, features.shape)

    def hessian_diagonal(self, cotangent: Any = None) -> Array:
        """Give the diagonal of the Hessian of the reduced loss by the features."""
        xp, features = self.backend.xp, self.layer.features
        size = features.shape[-1]
        columns = []
        for entry in range(size):
            unit = self.backend.arange(size, like=features) == entry
            vector = xp.zeros_like(features) + xp.astype(unit, features.dtype)
            columns.append(self.hvp(vector, cotangent)[..., entry])
        return xp.stack(columns, axis=-1) if columns else xp.zeros_like(features)

    def value_gradient_and_curvature(self, bound: bool) -> tuple[Array, Array, Array]:
        """Give the reduced loss, its gradient, and the Hessian's diagonal by the features."""
        if bound:
            raise check.no_row_sums("behind a linear layer the Hessian is a product with matrices")
        value, (gradient,) = self.value_and_grads(("features",))
        return value, gradient, self.hessian_diagonal()

    def _walk(self, step: Callable[..., Any], totals: Any, *others: Array) -> Any:
        """Take steps over groups of rows: features, `Rows`, and other arrays beside them."""
        backend, layer, xp = self.backend, self.layer, self.backend.xp
        count, classes = len(Rows._fields), layer.classifier.shape[0]

        def flat(array: Array | None) -> Array | None:
            return None if array is None else xp.reshape(array, (-1, array.shape[-1]))

        def on_rows(totals: Any, features: Array, *parts: Array | None) -> Any:
            rows, features = Rows(*parts[:count]), layer.widened(features)
            if rows.counted is not None:
                # The classifier's gradient is a product with the features: no NaN may be there.
                features = xp.where(rows.counted, features, xp.zeros_like(features))
            return step(totals, features, rows, *parts[count:])

        features = layer.flat(layer.features)
        arrays = (features, *(flat(x) for x in self.rows), *others)
        with backend.quiet():
            return backend.scan(on_rows, totals, arrays, max(1, STEP // classes))

    def _reduced(self, losses: Array) -> Array:
        xp, shape = self.backend.xp, tuple(self.layer.features.shape[:-1])
        with self.backend.quiet():
            return self.reduction.of(self.backend, xp.reshape(losses, shape))

    def _factor(self, cotangent: Any) -> Array:
        """Give the derivative of the reduced loss by each row's loss, (n, 1) or (1, 1)."""
        xp, like = self.backend.xp, self.layer.features
        shape = tuple(like.shape[:-1])
        with self.backend.quiet():  # nothing counted: 1 / 0
            factor = self.reduction.factor(self.backend, shape, cotangent, self.layer.dtype)
        if isinstance(factor, (int, float)):
            return self.backend.full((1, 1), factor, self.layer.dtype, like=like)
        return xp.reshape(factor, (-1, 1))

    def _check(self, wrt: tuple[str, ...]) -> None:
        given = self.arguments if self.layer.bias is None else (*self.arguments, "bias")
        for name in wrt:
            if name not in given:
                known = ", ".join(map(repr, given))
                raise ValueError(f"argnums: got {name!r}, wanted one of {known}")
        if "targets" in wrt and self.rows.probabilities is None:
            raise TypeError("argnums: got 'targets', but only floating targets have a gradient")
