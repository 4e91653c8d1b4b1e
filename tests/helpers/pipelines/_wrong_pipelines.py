"""Wrong pipelines in NumPy, PyTorch, JAX and optax, as their users would write them.

Nothing here uses this library. A writer takes a data set and the mistakes to make, and gives what
such a pipeline logs: the loss, or a loss a row, and the gradient where the library has one. JAX's
are here: jax.nn and grad, or optax, whose users mask and reduce.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _wrong_data import Data
from _wrong_numpy import in_numpy
from _wrong_rules import Claims, Rules, labels_of, weight_of
from _wrong_torch import in_torch


def in_jax(data: Data, rules: Rules) -> Claims:
    """Give the loss and its gradient."""
    return _in_jax(data, rules, optax_rows=False)


def in_optax(data: Data, rules: Rules) -> Claims:
    """Give the loss and its gradient."""
    return _in_jax(data, rules, optax_rows=True)


def _in_jax(data: Data, rules: Rules, optax_rows: bool) -> Claims:
    import jax
    import jax.numpy as jnp

    y, counted = (jnp.asarray(a) for a in labels_of(data, rules))
    weight, K = weight_of(data, rules), data.classes
    logits = jnp.asarray(data.logits)
    narrow = {"float16": jnp.float16, "bfloat16": jnp.bfloat16}

    def loss_of(z: Any) -> Any:
        x, labels, mask = z, y, counted
        if data.axis != -1:
            x = (
                x.reshape(-1, K).reshape(*y.shape, K)
                if "class-axis" in rules
                else jnp.moveaxis(x, data.axis, -1)
            )
        if "shift" in rules:
            x, labels, mask = x[:, :-1], y[:, 1:], counted[:, 1:]
        if rules.get("rounded", {}).get("what") == "logits":
            x = x.astype(narrow[rules["rounded"]["dtype"]]).astype(z.dtype)
        if "softcap" in rules:
            x = rules["softcap"]["softcap"] * jnp.tanh(x / rules["softcap"]["softcap"])
        if "temperature" in rules:
            x = x / rules["temperature"]["temperature"]
        if "softmax-twice" in rules:
            x = jax.nn.softmax(x)
        rows = (_optax_rows if optax_rows else _jax_rows)(data, rules, x, labels, weight)
        if "z-loss" in rules:
            rows = rows + rules["z-loss"]["z_loss"] * jax.nn.logsumexp(x, axis=-1) ** 2
        rows = jnp.where(mask, rows, 0.0)
        if "bits" in rules:
            rows = rows / jnp.log(jnp.asarray(2.0, z.dtype))
        weighted = weight is not None and data.labelled
        if "reduction-sum" in rules:
            return rows.sum()
        if "mean-over-all-positions" in rules:
            return rows.mean()
        if "mean-of-sequence-means" in rules:
            axes = tuple(range(1, rows.ndim))
            return jnp.mean(rows.sum(axes) / mask.sum(axes))
        if weighted and not {"denominator-count", "sigmoid"} & set(rules):
            return rows.sum() / jnp.sum(jnp.asarray(weight)[labels] * mask)
        return rows.sum() / mask.sum()

    loss, gradient = jax.value_and_grad(loss_of)(logits)
    factor = rules.get("gradient-scale", {"factor": 1.0})["factor"]
    gradient = gradient * (-factor if "gradient-sign" in rules else factor)
    if rules.get("rounded", {}).get("what") == "loss":
        loss = loss.astype(narrow[rules["rounded"]["dtype"]])
    return {"loss": np.asarray(loss).astype(data.logits.dtype), "gradient": np.asarray(gradient)}


def _smoothed(rules: Rules, q: Any, K: int) -> Any:
    if "smoothing" not in rules:
        return q
    e = rules["smoothing"]["label_smoothing"]
    if rules["smoothing"]["smoothing"] == "uniform":
        return (1 - e) * q + e / K
    return (1 - e) * q + e / (K - 1) * (q.sum(-1, keepdims=True) - q)


def _jax_rows(data: Data, rules: Rules, x: Any, y: Any, weight: Any) -> Any:
    import jax
    import jax.numpy as jnp

    K = data.classes
    q = jax.nn.one_hot(y, K, dtype=x.dtype) if data.labelled else y
    used = (
        None
        if weight is None
        else jnp.asarray(weight) ** (2 if "class-weights-squared" in rules else 1)
    )
    if "sigmoid" in rules:
        each = -q * jax.nn.log_sigmoid(x) - (1 - q) * jax.nn.log_sigmoid(-x)
        each = each if used is None else each * used
        return each.mean(-1) if rules["sigmoid"]["form"] == "mean" else each.sum(-1)
    log_p = jax.nn.log_softmax(x, axis=0 if "class-axis" in rules and data.axis == -1 else -1)
    if "clipping" in rules:
        log_p = jnp.log(jax.nn.softmax(x) + rules["clipping"]["eps"])
    q = _smoothed(rules, q, K)
    return -jnp.sum((q if used is None else q * used) * log_p, axis=-1)


def _optax_rows(data: Data, rules: Rules, x: Any, y: Any, weight: Any) -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    K, plain = data.classes, not {"smoothing", "sigmoid", "clipping", "class-axis"} & set(rules)
    used = (
        None
        if weight is None
        else jnp.asarray(weight) ** (2 if "class-weights-squared" in rules else 1)
    )
    if data.labelled and plain:
        rows = optax.softmax_cross_entropy_with_integer_labels(x, y)
        return rows if used is None else rows * used[y]
    if {"clipping", "class-axis"} & set(rules):
        return _jax_rows(data, rules, x, y, weight)
    q = jax.nn.one_hot(y, K, dtype=x.dtype) if data.labelled else y
    if "sigmoid" in rules:
        each = optax.sigmoid_binary_cross_entropy(x, q)
        each = each if used is None else each * used
        return each.mean(-1) if rules["sigmoid"]["form"] == "mean" else each.sum(-1)
    smoothed = rules.get("smoothing", {}).get("smoothing")
    if smoothed == "uniform":
        q = optax.smooth_labels(q, rules["smoothing"]["label_smoothing"])
    else:
        q = _smoothed(rules, q, K)
    return optax.softmax_cross_entropy(x, q if used is None else q * used)


WRITERS = {"numpy": in_numpy, "torch": in_torch, "jax": in_jax, "optax": in_optax}
