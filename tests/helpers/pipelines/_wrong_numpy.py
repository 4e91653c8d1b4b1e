"""Wrong pipelines by hand in NumPy: no gradient, but a loss a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from _wrong_data import Data
from _wrong_rules import Claims, Rules, labels_of, weight_of


def in_numpy(data: Data, rules: Rules) -> Claims:
    """Give the reduced loss of small data, and a loss a row otherwise."""
    z, y, counted = _logits(data, rules)
    rows = _rows(data, rules, z, y) * counted
    if "bits" in rules:
        rows = rows / np.log(z.dtype.type(2))
    loss = _reduced(data, rules, rows, y, counted)
    if rules.get("rounded", {}).get("what") == "loss":
        loss, rows = (_narrow(x, rules["rounded"]["dtype"]) for x in (loss, rows))
    dtype = data.logits.dtype
    if "shift" in rules:
        return {"loss": np.asarray(loss, dtype)}
    return {"loss": np.asarray(loss, dtype), "rows": np.asarray(rows, dtype)}


def _logits(data: Data, rules: Rules) -> tuple[Any, Any, Any]:
    """Give what the loss is taken of: logits, labels, and which rows count."""
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
    return z, y, counted


def _rows(data: Data, rules: Rules, z: Any, y: Any) -> Any:
    """Give the losses of rows that count."""
    K, weight = data.classes, weight_of(data, rules)
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
    return rows


def _reduced(data: Data, rules: Rules, rows: Any, y: Any, counted: Any) -> Any:
    if "reduction-sum" in rules:
        return rows.sum()
    if "mean-over-all-positions" in rules:
        return rows.mean()
    if "mean-of-sequence-means" in rules:
        flat = rows.reshape(len(rows), -1).sum(1) / counted.reshape(len(rows), -1).sum(1)
        return flat.mean()
    weight = weight_of(data, rules)
    labelled_weight = weight is not None and data.labelled and "sigmoid" not in rules
    if "denominator-count" in rules or not labelled_weight:
        return rows.sum() / counted.sum()
    return rows.sum() / (counted * weight[y]).sum()


def _narrow(x: Any, dtype: str) -> Any:
    import ml_dtypes

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return np.asarray(x).astype(kind).astype(np.asarray(x).dtype)
