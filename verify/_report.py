"""What ``xp-xent loss`` says: on the screen and as JSON."""

import math
from typing import Any

import numpy as np

from xp_xent.verify import _shell as shell
from xp_xent.verify._measures import BINS, EDGES, Measures


def show(found: Measures, most: int, positions: int) -> None:
    """Print what was measured, and a table of the classes that cost most."""
    screen = shell.screen()
    table = shell.table("", "")
    table.show_header = False
    table.add_row("loss", f"{found.loss:.7g} nats")
    table.add_row("perplexity", f"{found.perplexity:.7g}")
    if found.bits_per_byte is not None:
        table.add_row("bits per byte", f"{found.bits_per_byte:.6g}")
    table.add_row("accuracy", f"{found.accuracy:.2%}")
    table.add_row("calibration error", f"{found.calibration_error:.4f}")
    table.add_row("rows that count", f"{found.rows} of {positions}")
    if found.broken:
        table.add_row("NaN or infinite", f"{found.broken} rows, the first at {found.first_broken}")
    screen.print(table)
    names = ("class", "rows", "of all rows", "loss", "of all loss", "accuracy")
    table = shell.table(*names, numbers=names)
    ranked = by_cost(found)
    for k in ranked[:most]:
        rows, nats, hits = found.by_class[:, k]
        share, cost = _shares(found, k)
        table.add_row(str(k), f"{rows:.6g}", f"{share:.1%}", f"{nats / rows:.4g}", f"{cost:.1%}",
                      f"{hits / rows:.1%}")  # fmt: skip
    screen.print()
    screen.print(table)
    if len(ranked) > most:
        rest = sum(_shares(found, k)[1] for k in ranked[most:])
        screen.print(f"and {len(ranked) - most} classes more, {rest:.1%} of all loss (--classes)")


def by_cost(found: Measures) -> list[int]:
    """Give the classes that have rows, those that lose most first."""
    rows, nats, _ = found.by_class
    return [int(k) for k in np.argsort(-nats, kind="stable") if rows[k]]


def _shares(found: Measures, k: int) -> tuple[float, float]:
    """Give a class's share of all rows and of all nats."""
    rows, nats, _ = found.by_class
    return rows[k] / rows.sum(), nats[k] / nats.sum() if nats.sum() else 0.0


def as_json(found: Measures) -> dict[str, Any]:
    """Give what was measured in the form of ``schemas/loss.json``."""
    edges = [0.0, *map(float, EDGES), math.inf]
    bins = np.linspace(0, 1, BINS + 1).tolist()
    return {
        "loss": float(found.loss),
        "perplexity": float(found.perplexity),
        "bits_per_byte": found.bits_per_byte,
        "accuracy": found.accuracy,
        "calibration_error": found.calibration_error,
        "rows": found.rows,
        "not_finite": {"rows": found.broken, "first": found.first_broken},
        "classes": [
            {"class": k, "rows": float(rows), "loss": float(nats / rows),
             "share": float(_shares(found, k)[1]), "accuracy": float(hits / rows)}
            for k in by_cost(found) for rows, nats, hits in [found.by_class[:, k]]
        ],
        "reliability": [
            {"from": low, "to": high, "rows": float(rows),
             "confidence": float(sure / rows) if rows else None,
             "accuracy": float(hits / rows) if rows else None}
            for low, high, (rows, sure, hits)
            in zip(bins, bins[1:], found.by_confidence.T, strict=False)
        ],
        "histogram": [
            {"from": low, "to": high, "rows": float(rows)}
            for low, high, rows in zip(edges, edges[1:], found.by_loss, strict=False)
        ],
    }  # fmt: skip
