"""Evaluating a cross-entropy behind a linear layer, some rows at a time.

For features X (N, D), a classifier W (K, D) and G = ∂L/∂(logits), which is (N, K) and exists only
for the rows of one step:

    ∂L/∂X = G W        ∂L/∂W = Gᵀ X        ∂L/∂bias = Σ_rows G
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from xp_xent.flow import checks as check
from xp_xent.flow.execute import Reduction, fill, run
from xp_xent.flow.plan import RowPlan
from xp_xent.kernels.linear_layer import Layer
from xp_xent.kernels.row_metrics import loss_stats
from xp_xent.kernels.rows import Rows

Array = Any

# Logits of one step, 34 MB in float32: large enough for the matrix products, which add to the whole
# of the classifier's gradient in each; small beside what they save.
STEP = 1 << 23


class LinearEvaluation(NamedTuple):
    """The evaluation of a cross-entropy behind a linear layer."""

    arguments: tuple[str, ...]

    plan: RowPlan
    kernel: Any
    rows: Rows  # without logits
    reduction: Reduction
    layer: Layer

    @property
    def backend(self) -> Any:
        """The arrays' backend."""
        return self.plan.backend

    def value(self) -> Array:
        """Compute the reduced loss."""

        def step(total: Any, features: Array, rows: Rows) -> tuple[Any, tuple[Array, ...]]:
            rows = rows._replace(logits=self.layer.logits(features))
            found = run(self, "value", rows=rows)
            return total, found if isinstance(found, tuple) else (found,)

        _, (losses, *metrics) = self._walk(step, ())
        return self._result(losses, metrics)

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None, out: tuple[Array | None, ...] = ()
    ) -> tuple[Array, tuple[Array | None, ...]]:
        """Compute the reduced loss, and its derivative by each of the arguments named.

        A derivative is None where it was copied into its array of `out`.
        """
        self._check(wrt)
        xp, layer, backend = self.backend.xp, self.layer, self.backend

        def step(
            totals: dict[str, Array], features: Array, rows: Rows, factor: Array
        ) -> tuple[dict[str, Array], tuple[Array, ...]]:
            rows, parts = rows._replace(logits=layer.logits(features)), {}
            losses, slope, metrics = None, None, []
            if "targets" in wrt:
                method = "value_and_target_gradient"
                losses, parts["targets"], *_ = run(self, method, factor, rows=rows)
            if "temperature" in wrt:
                method = "value_and_temperature_gradient"
                losses, parts["temperature"] = run(self, method, factor, rows=rows)
            if set(wrt) - {"targets", "temperature"}:
                method = "value_and_gradient"
                losses, *metrics, slope = run(self, method, factor, rows=rows, overwrite=True)
            if "features" in wrt:
                parts["features"] = layer.by_features(slope)
            if "classifier" in wrt:
                flat = layer.flat(slope), layer.flat(features)
                total = backend.add_product(totals["classifier"], *flat)
                totals = totals | {"classifier": total}
            if "bias" in wrt:
                totals = totals | {"bias": totals["bias"] + xp.sum(layer.flat(slope), axis=0)}
            return totals, (losses, *(parts[name] for name in wrt if name in parts), *metrics)

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
        arrays["temperature"] = None
        of_rows = [name for name in wrt if name in arrays]
        by_row, metrics = by_row[: len(of_rows)], by_row[len(of_rows) :]
        for name, gradient in zip(of_rows, by_row, strict=True):
            if name == "temperature":
                found[name] = self._summed(gradient)
            else:
                found[name] = self._in_shape(gradient, tuple(arrays[name].shape))
        gradients = [found[name] for name in wrt]
        for at, target in enumerate(out):
            gradients[at] = gradients[at] if target is None else fill(target, gradients[at])
        return self._result(losses, metrics), tuple(gradients)

    def _result(self, losses: Array, metrics: Sequence[Array]) -> Any:
        """Return the reduced loss, with its statistics if these are asked for."""
        if not self.kernel.has_metrics:
            return self._reduced(losses)
        if not metrics:
            return self.value()
        stats = loss_stats(self, metrics, self._from_column)
        return self._reduced(losses), stats

    def _from_column(self, x: Array) -> Array:
        return self.plan.from_column(self._in_shape(x, (*self.layer.features.shape[:-1], 1)))

    def hvp(self, vector: Array, cotangent: Any = None) -> Array:
        """Return the Hessian of the reduced loss by the features, times a vector."""
        features = self.layer.features
        if self.kernel.has_metrics:
            raise check.no_stats()
        check.floating("vector", vector)
        check.shape("vector", vector, tuple(features.shape), "the features'")

        def step(
            total: Any, features: Array, rows: Rows, factor: Array, vector: Array
        ) -> tuple[Any, tuple[Array, ...]]:
            rows = rows._replace(logits=self.layer.logits(features))
            change = self.layer.forward(self.layer.widened(vector))
            slope = run(self, "hvp", factor, change, rows=rows)
            return total, (self.layer.by_features(slope),)

        _, (found,) = self._walk(step, (), self._factor(cotangent), vector)
        return self._in_shape(found, tuple(features.shape))

    def hessian_diagonal(self, cotangent: Any = None) -> Array:
        """Compute the diagonal of the Hessian of the reduced loss by the features."""
        xp, features = self.backend.xp, self.layer.features
        size = features.shape[-1]
        columns, position = [], self.backend.indices(features, -1)
        for entry in range(size):
            unit = position == entry
            vector = xp.zeros_like(features) + xp.astype(unit, features.dtype)
            columns.append(self.hvp(vector, cotangent)[..., entry])
        return xp.stack(columns, axis=-1) if columns else xp.zeros_like(features)

    def hessian(self) -> Array:
        """Refuse it: it would be of the features, not of rows of logits."""
        raise check.no_matrix("behind a linear layer")

    def value_gradient_and_curvature(self, bound: bool) -> tuple[Array, Array, Array]:
        """Compute the reduced loss, its gradient, and the Hessian's diagonal by the features."""
        if self.kernel.has_metrics:
            raise check.no_stats()
        if bound:
            raise check.no_row_sums("behind a linear layer the Hessian is a product with matrices")
        value, (gradient,) = self.value_and_grads(("features",))
        return value, gradient, self.hessian_diagonal()

    def _walk(self, step: Callable[..., Any], totals: Any, *others: Array) -> Any:
        """Take steps over groups of rows: features, `Rows`, and other arrays beside them."""
        backend, layer, xp = self.backend, self.layer, self.backend.xp
        # Of the whole, for each of its parts has to take as many steps.
        arrays, classes = (layer.features, *self._arrays(), *others), self.plan.classes
        count = len(self.rows) - 1

        def on_rows(totals: Any, features: Array, *parts: Any) -> Any:
            rows, features = Rows(*parts[:count]), layer.widened(features)
            if rows.valid is not None:
                # The classifier's gradient is a product with the features: no NaN may be there.
                features = xp.where(rows.valid, features, xp.zeros_like(features))
            return step(totals, features, rows, *parts[count:])

        # Where a length is not known yet, rows that were put in one line could not be put back.
        if all(x is None or None not in x.shape for x in arrays):
            arrays = tuple(None if x is None else layer.flat(x) for x in arrays)
        return backend.map_steps(on_rows, totals, arrays, max(1, STEP // classes))

    def _in_shape(self, found: Array, shape: tuple[int, ...]) -> Array:
        """Undo what `_walk` does to a shape."""
        return found if None in shape else self.backend.xp.reshape(found, shape)

    def _arrays(self) -> tuple[Any, ...]:
        """Return the arrays of the rows; a mask over classes is of each row, or of all."""
        mask, rows = self.rows.class_valid, self.rows
        if mask is not None and any(length != 1 for length in mask.shape[:-1]):
            shape = (*self.layer.features.shape[:-1], mask.shape[-1])
            if None in shape:  # then the rows stay as they are
                return rows[:-1]
            rows = rows._replace(class_valid=self.backend.xp.broadcast_to(mask, shape))
        return rows[:-1]

    def _summed(self, by_row: Array) -> Array:
        """Sum a derivative by a number over the rows; one a row where there is a loss a row."""
        if self.reduction.kind == "none":
            return self._from_column(by_row)
        return self.backend.total(by_row)

    def _reduced(self, losses: Array) -> Array:
        return self.reduction.reduce(self.backend, self._from_column(losses))

    def _factor(self, cotangent: Any) -> Array:
        """Compute the derivative of the reduced loss by each row's loss, (n, 1) or (1, 1)."""
        like = self.layer.features
        factor = self.reduction.factor(self.backend, cotangent, self.layer.dtype)
        if isinstance(factor, (int, float)):
            return self.backend.full((1, 1), factor, self.layer.dtype, like=like)
        return (
            factor[None, None] if len(factor.shape) == 0 else self.plan.cotangent_to_column(factor)
        )

    def _check(self, wrt: tuple[str, ...]) -> None:
        given = (*self.arguments, "temperature")
        given = given if self.layer.bias is None else (*given, "bias")
        for name in wrt:
            if name not in given:
                known = ", ".join(map(repr, given))
                raise ValueError(f"argnums: got {name!r}, wanted one of {known}")
        if "targets" in wrt and self.rows.probabilities is None:
            raise TypeError("argnums: got 'targets', but only floating targets have a gradient")
