"""Relative error of a row's loss against its log-odds, for this library and each peer."""

from itertools import cycle
from typing import Any

import numpy as np

from xp_xent import backends
from xp_xent.conformance import _subjects

LEAST = 1e-9  # an exact answer is drawn here


def losses(subject: Any, logits: Any) -> Any:
    """Ask for each row alone: some peers have a mean only."""
    backend = backends.get(subject.backend)
    width = "int32" if subject.backend == "jax" else "int64"  # each one's own
    label = backend.asarray(np.zeros(1), dtype=width)
    loss = subject.functions["cross_entropy"]
    rows = (backend.asarray(row[None], dtype="float32") for row in logits)
    return np.asarray([float(backend.to_numpy(loss(row, label))) for row in rows])


def draw(axes: Any) -> None:
    """Ask every subject that is installed for the loss of float32 rows (t, 0)."""
    odds = np.linspace(-20, 40, 121, dtype=np.float32)
    logits = np.stack([odds, np.zeros_like(odds)], axis=-1)
    truth = np.logaddexp(0.0, -odds.astype(np.float64))
    worst: dict[str, Any] = {}
    libraries = set()
    for subject in _subjects.subjects()[0]:
        again = subject.traced or "ranks" in subject.name
        if again or "cross_entropy" not in subject.functions:
            continue
        ours = subject.name.startswith("xp_xent")
        name = "xp_xent" if ours else subject.name
        libraries |= {subject.backend} if ours else set()
        error = np.maximum(np.abs(losses(subject, logits) - truth) / truth, LEAST)
        worst[name] = np.maximum(error, worst.get(name, LEAST))
    for (name, error), line in zip(worst.items(), cycle(("-", "--", "-.", ":")), strict=False):
        ours = name == "xp_xent"
        label = f"xp_xent, worst of {len(libraries)} libraries" if ours else name
        axes.semilogy(
            odds, error, label=label, linestyle=line, linewidth=3 if ours else 1.3, zorder=2 - ours
        )
    axes.set(xlabel="log-odds of the true class", ylabel="relative error of the loss, float32")
    axes.set_ylim(LEAST / 2, 1e9)
    axes.legend(fontsize=8, loc="upper left")
