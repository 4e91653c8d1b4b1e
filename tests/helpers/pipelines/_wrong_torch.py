"""Wrong pipelines in PyTorch: torch.nn.functional and autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
from _wrong_data import Data
from _wrong_rules import Claims, Rules, labels_of, weight_of


def in_torch(data: Data, rules: Rules) -> Claims:
    """Give the loss and its gradient."""
    import torch

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
    rows = _rows(data, rules, x, y, weight).reshape(counted.shape)
    if "z-loss" in rules:
        rows = rows + rules["z-loss"]["z_loss"] * torch.logsumexp(x, -1) ** 2
    rows = rows * counted
    loss = _reduced(data, rules, rows, y, counted, weight)
    if "bits" in rules:
        loss = loss / np.log(2.0)
    factor = rules.get("gradient-scale", {"factor": 1.0})["factor"]
    (loss * factor * (-1.0 if "gradient-sign" in rules else 1.0)).backward()
    if rules.get("rounded", {}).get("what") == "loss":
        loss = loss.to(narrow[rules["rounded"]["dtype"]])
    assert z.grad is not None
    return {"loss": loss.detach().to(z.dtype).numpy(), "gradient": z.grad.numpy()}


def _rows(data: Data, rules: Rules, x: Any, y: Any, weight: Any) -> Any:
    """Give the losses of rows that count."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    K = data.classes
    used = weight**2 if weight is not None and "class-weights-squared" in rules else weight
    smoothing = rules.get("smoothing", {"label_smoothing": 0.0, "smoothing": "uniform"})
    e = smoothing["label_smoothing"]
    if "sigmoid" in rules:
        hot = F.one_hot(y, K).to(x.dtype)
        each = F.binary_cross_entropy_with_logits(x, hot, weight=used, reduction="none")
        rows = each.mean(-1) if rules["sigmoid"]["form"] == "mean" else each.sum(-1)
    elif "clipping" in rules or "class-axis" in rules or smoothing["smoothing"] == "others":
        log_p = F.log_softmax(x, dim=0 if "class-axis" in rules and data.axis == -1 else -1)
        if "clipping" in rules:
            log_p = torch.log(torch.clamp(log_p.exp(), rules["clipping"]["eps"]))
        q = F.one_hot(y, K).to(x.dtype) if data.labelled else y
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
    return rows


def _reduced(data: Data, rules: Rules, rows: Any, y: Any, counted: Any, weight: Any) -> Any:
    if "reduction-sum" in rules:
        return rows.sum()
    if "mean-over-all-positions" in rules:
        return rows.mean()
    if "mean-of-sequence-means" in rules:
        return (rows.flatten(1).sum(1) / counted.flatten(1).sum(1)).mean()
    if weight is not None and data.labelled and not {"denominator-count", "sigmoid"} & set(rules):
        return rows.sum() / (weight[y] * counted).sum()
    return rows.sum() / counted.sum()
