"""Relative error of a row's loss against its log-odds, for this library and each peer."""

from typing import Any

import numpy as np

from xp_xent import backends
from xp_xent.conformance import _subjects

LEAST = 1e-9  # an exact answer is drawn here


def draw(axes: Any) -> None:
    """Ask every subject that is installed for the loss of float32 rows (t, 0)."""
    odds = np.linspace(-20, 40, 121, dtype=np.float32)
    logits = np.stack([odds, np.zeros_like(odds)], axis=-1)
    truth = np.logaddexp(0.0, -odds.astype(np.float64))
    curves: dict[bytes, tuple[Any, list[str]]] = {}
    for subject in _subjects.subjects()[0]:
        if subject.traced or "cross_entropy" not in subject.functions:
            continue
        backend = backends.get(subject.backend)
        given = backend.asarray(logits, dtype="float32"), backend.asarray(odds * 0, dtype="int64")
        got = backend.to_numpy(subject.functions["cross_entropy"](*given, reduction="none"))
        error = np.maximum(np.abs(got.astype(np.float64) - truth) / truth, LEAST)
        ours = subject.name.startswith("xp_xent")
        key = b"ours" if ours else subject.name.split()[0].encode()
        curves.setdefault(key, (error, []))[1].append(subject.name)
    for key, (error, names) in curves.items():
        ours = key == b"ours"
        name = f"xp_xent, {len(names)} libraries" if ours else names[0]
        axes.semilogy(odds, error, label=name, linewidth=3 if ours else 1, zorder=3 if ours else 2)
    axes.set(xlabel="log-odds of the true class", ylabel="relative error of the loss, float32")
    axes.legend(fontsize=8)
