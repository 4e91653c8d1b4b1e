"""Wrong pipelines in NumPy, PyTorch, JAX and optax, as their users would write them.

Nothing here uses this library. A writer takes a data set and the mistakes to make, and gives what
such a pipeline logs: the loss, or a loss a row, and the gradient where the library has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _wrong_data import Data
from _wrong_rules import Rules

Claims = dict[str, Any]


def labels_of(data: Data, rules: Rules) -> tuple[Any, Any]:
    """Give the labels that the other side has, and which of its rows count."""
    y, ignored = data.targets, data.ignored
    if not data.labelled:
        return y, np.ones(y.shape[:-1], bool)
    if "ignore-index" in rules:
        ignored = rules["ignore-index"]["ignore_index"]
    counted = np.ones(y.shape, bool) if ignored is None else y != ignored
    if "labels-from-one" in rules:
        y = (y - 1) % data.classes
    return np.where(counted, y, 0), counted


def weight_of(data: Data, rules: Rules) -> Any:
    return None if "class-weights-missing" in rules else data.weight


# NumPy: by hand, no gradient


def in_numpy(data: Data, rules: Rules) -> Claims:
    """Give the reduced loss of small data, and a loss a row otherwise."""
    z, K = data.logits, data.classes
    y, counted = labels_of(data, rules)
    if data.axis != -1:
        z = (
            z.reshape(-1, K).reshape(*y.shape, K)
            if "class-axis" in rules
            else np.moveaxis(z, data.axis, -1)
        )
    if "shift" in rules:
        z, y, counted = z[:, :-1], y[:, 1:], counted[:, 1:]
    if rules.get("rounded", {}).get("what") == "logits":
        z = _narrow(z, rules["rounded"]["dtype"])
    if "softcap" in rules:
        cap = z.dtype.type(rules["softcap"]["softcap"])
        z = cap * np.tanh(z / cap)
    if "temperature" in rules:
        z = z / z.dtype.type(rules["temperature"]["temperature"])
    if "softmax-twice" in rules:
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        z = e / e.sum(axis=-1, keepdims=True)
    axis = 0 if "class-axis" in rules and data.axis == -1 else -1
    top = z.max(axis=axis, keepdims=True)
    lse = np.log(np.exp(z - top).sum(axis=axis, keepdims=True))
    log_p = (z - top) - lse
    if "clipping" in rules:
        eps = rules["clipping"]["eps"]
        log_p = np.log(np.clip(np.exp(log_p), eps, 1.0 - eps))
    q = np.eye(K, dtype=z.dtype)[y] if data.labelled else y
    if "smoothing" in rules:
        e, form = rules["smoothing"]["label_smoothing"], rules["smoothing"]["smoothing"]
        q = (
            q * (1 - e) + e / K
            if form == "uniform"
            else q * (1 - e) + (q.sum(-1, keepdims=True) - q) * e / (K - 1)
        )
    weight = weight_of(data, rules)
    if weight is not None and "sigmoid" not in rules:
        q = q * (weight**2 if "class-weights-squared" in rules else weight)
    if "sigmoid" in rules:
        each = np.logaddexp(0, z) - q * z
        if weight is not None:
            each = each * weight
        rows = each.mean(-1) if rules["sigmoid"]["form"] == "mean" else each.sum(-1)
    else:
        rows = -(q * log_p).sum(axis=-1)
    if "z-loss" in rules:
        plain = z.max(-1, keepdims=True) + np.log(
            np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)
        )
        rows = rows + rules["z-loss"]["z_loss"] * plain[..., 0] ** 2
    rows = rows * counted
    if "bits" in rules:
        rows = rows / np.log(z.dtype.type(2))
    labelled_weight = weight is not None and data.labelled and "sigmoid" not in rules
    shares = counted * (weight[y] if labelled_weight else 1.0)
    if "reduction-sum" in rules:
        loss = rows.sum()
    elif "mean-over-all-positions" in rules:
        loss = rows.mean()
    elif "mean-of-sequence-means" in rules:
        flat = rows.reshape(len(rows), -1).sum(1) / counted.reshape(len(rows), -1).sum(1)
        loss = flat.mean()
    elif "denominator-count" in rules:
        loss = rows.sum() / counted.sum()
    else:
        loss = rows.sum() / shares.sum()
    if rules.get("rounded", {}).get("what") == "loss":
        loss, rows = (_narrow(x, rules["rounded"]["dtype"]) for x in (loss, rows))
    dtype = data.logits.dtype
    if "shift" in rules:
        return {"loss": np.asarray(loss, dtype)}
    return {"loss": np.asarray(loss, dtype), "rows": np.asarray(rows, dtype)}


def _narrow(x: Any, dtype: str) -> Any:
    import ml_dtypes

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return np.asarray(x).astype(kind).astype(np.asarray(x).dtype)


# PyTorch: torch.nn.functional and autograd


def in_torch(data: Data, rules: Rules) -> Claims:
    """Give the loss and its gradient."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    z = torch.tensor(data.logits, requires_grad=True)
    y, counted = (torch.tensor(a) for a in labels_of(data, rules))
    x, K = z, data.classes
    narrow = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if data.axis != -1:
        x = (
            x.reshape(-1, K).reshape(*y.shape, K)
            if "class-axis" in rules
            else x.movedim(data.axis, -1)
        )
    if "shift" in rules:
        x, y, counted = x[:, :-1], y[:, 1:], counted[:, 1:]
    if rules.get("rounded", {}).get("what") == "logits":
        x = x.to(narrow[rules["rounded"]["dtype"]]).to(z.dtype)
    if "softcap" in rules:
        x = torch.tanh(x / rules["softcap"]["softcap"]) * rules["softcap"]["softcap"]
    if "temperature" in rules:
        x = x / rules["temperature"]["temperature"]
    if "softmax-twice" in rules:
        x = x.softmax(-1)
    weight = weight_of(data, rules)
    weight = None if weight is None else torch.tensor(weight)
    used = weight**2 if weight is not None and "class-weights-squared" in rules else weight
    smoothing = rules.get("smoothing", {"label_smoothing": 0.0, "smoothing": "uniform"})
    e = smoothing["label_smoothing"]
    if "sigmoid" in rules:
        hot = F.one_hot(y, K).to(z.dtype)
        each = F.binary_cross_entropy_with_logits(x, hot, weight=used, reduction="none")
        rows = each.mean(-1) if rules["sigmoid"]["form"] == "mean" else each.sum(-1)
    elif "clipping" in rules or "class-axis" in rules or smoothing["smoothing"] == "others":
        log_p = F.log_softmax(x, dim=0 if "class-axis" in rules and data.axis == -1 else -1)
        if "clipping" in rules:
            log_p = torch.log(torch.clamp(log_p.exp(), rules["clipping"]["eps"]))
        q = F.one_hot(y, K).to(z.dtype) if data.labelled else y
        other = e / K if smoothing["smoothing"] == "uniform" else e / (K - 1)
        if smoothing["smoothing"] == "uniform":
            q = (1 - e) * q + other
        else:
            q = (1 - e) * q + other * (q.sum(-1, keepdim=True) - q)
        rows = -((q if used is None else q * used) * log_p).sum(-1)
    else:
        flat = x.reshape(-1, K)
        to = y.reshape(-1) if data.labelled else y.reshape(-1, K)
        rows = F.cross_entropy(flat, to, used, reduction="none", label_smoothing=e)
        rows = rows.reshape(counted.shape)
    if "z-loss" in rules:
        rows = rows + rules["z-loss"]["z_loss"] * torch.logsumexp(x, -1) ** 2
    rows = rows * counted
    if "reduction-sum" in rules:
        loss = rows.sum()
    elif "mean-over-all-positions" in rules:
        loss = rows.mean()
    elif "mean-of-sequence-means" in rules:
        loss = (rows.flatten(1).sum(1) / counted.flatten(1).sum(1)).mean()
    elif weight is not None and data.labelled and not {"denominator-count", "sigmoid"} & set(rules):
        loss = rows.sum() / (weight[y] * counted).sum()
    else:
        loss = rows.sum() / counted.sum()
    if "bits" in rules:
        loss = loss / np.log(2.0)
    factor = rules.get("gradient-scale", {"factor": 1.0})["factor"]
    (loss * factor * (-1.0 if "gradient-sign" in rules else 1.0)).backward()
    if rules.get("rounded", {}).get("what") == "loss":
        loss = loss.to(narrow[rules["rounded"]["dtype"]])
    assert z.grad is not None
    return {"loss": loss.detach().to(z.dtype).numpy(), "gradient": z.grad.numpy()}


# JAX: jax.nn and grad; optax: its losses, whose users mask and reduce


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
