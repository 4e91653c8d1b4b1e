"""The picture of a loss: by class, by confidence, by row."""

from pathlib import Path
from typing import Any

import numpy as np

from xp_xent.verify._measures import BINS, EDGES, Measures
from xp_xent.verify._report import by_cost
from xp_xent.verify._shell import complete
from xp_xent.verify._stored import BadInput

KINDS = (".png", ".svg", ".pdf")
MOST = 20  # bars


def check(file: Path) -> None:
    """Refuse, before the work, what cannot be drawn."""
    if file.suffix.lower() not in KINDS:
        raise BadInput(f"--plot {file}: got {file.suffix!r}, wanted one of {', '.join(KINDS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BadInput('--plot: needs pip install "xp_xent[plot]"') from error


def draw(found: Measures, file: Path) -> None:
    """Draw loss by class, a reliability diagram and a histogram of the rows' losses."""
    from matplotlib.figure import Figure  # not pyplot: no window is ever opened

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    by_class, reliability, losses = figure.subplots(1, 3)
    _by_class(by_class, found)
    _reliability(reliability, found)
    _losses(losses, found)
    with complete(file) as place:
        figure.savefig(place, dpi=150)


def _by_class(axes: Any, found: Measures) -> None:
    rows, nats, _ = found.by_class
    ranked = by_cost(found)[:MOST]
    places = np.arange(len(ranked))
    tiny = np.finfo(np.float64).tiny  # where there is nothing, nothing is drawn
    axes.bar(places, nats[ranked] / max(nats.sum(), tiny), label="of all loss")
    axes.plot(
        places, rows[ranked] / max(rows.sum(), tiny), "k_", markersize=10, label="of all rows"
    )
    axes.set_xticks(places, [str(k) for k in ranked], rotation=90 if len(ranked) > 10 else 0)
    more = int((rows > 0).sum()) - len(ranked)
    axes.set(title="loss by class", xlabel=f"class ({more} more)" if more else "class",
             ylabel="share")  # fmt: skip
    axes.legend(frameon=False)


def _reliability(axes: Any, found: Measures) -> None:
    rows, sure, hits = found.by_confidence
    there = rows > 0
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    centres = (np.arange(BINS) + 0.5) / BINS
    axes.bar(
        centres, rows / max(rows.sum(), 1e-300), width=0.9 / BINS, color="0.85", label="of all rows"
    )
    axes.plot(sure[there] / rows[there], hits[there] / rows[there], "o-", label="accuracy")
    axes.set(title=f"calibration error {found.calibration_error:.3f}", xlabel="confidence",
             xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axes.legend(frameon=False, loc="upper left")


def _losses(axes: Any, found: Measures) -> None:
    # The outer bins have no end; they are drawn as wide as their neighbours.
    ratio = EDGES[1] / EDGES[0]
    edges = np.concatenate([[EDGES[0] / ratio], EDGES, [EDGES[-1] * ratio]])
    axes.stairs(found.by_loss, edges, fill=True)
    axes.axvline(max(found.plain, edges[0]), color="k", linewidth=1, label="mean")
    axes.set(title="losses", xlabel="nats of a row", ylabel="rows", xscale="log")
    axes.legend(frameon=False)
