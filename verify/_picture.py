"""Draw where gradients differ from the truth: rows by classes, in ULP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xp_xent.verify._judge import Standing
from xp_xent.verify._result import ulps
from xp_xent.verify._stored import BadInput


def draw(file: Path, pictures: Mapping[str, Standing]) -> None:
    """Draw the gradients that are claimed, one beside the other.

    Each cell is the worst of its rows and classes, so that one entry among millions shows; beside
    them is the share of rows that are off.

    Parameters
    ----------
    file : Path
        Its ending says the format.
    pictures : mapping of str to Standing

    Raises
    ------
    BadInput
        There is no gradient, or matplotlib is missing or does not know the format.
    """
    if not pictures:
        raise BadInput("--plot: there is no gradient to draw; wanted an array called 'gradient'")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput(f"--plot: {error}; it needs matplotlib, pip install matplotlib") from error
    figure = Figure(figsize=(1.5 + 5.5 * len(pictures), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axis, (name, one) in zip(axes, pictures.items(), strict=True):
        assert one.picture is not None
        assert one.off is not None
        errors = np.where(np.isfinite(one.picture), one.picture, 2.0**53)
        # Below half a ULP a number is rounded right: it stays white.
        errors = np.where(errors < 0.5, np.nan, errors)
        rows, classes = len(one.off), one.classes
        highest = max(float(np.nanmax(errors, initial=1.0)), 10.0)
        image = axis.imshow(
            errors, aspect="auto", interpolation="nearest", cmap="viridis_r",
            norm=LogNorm(0.5, highest), extent=(-0.5, classes - 0.5, rows - 0.5, -0.5),
        )  # fmt: skip
        off = int(np.sum(one.off > 1.0))
        axis.set_title(f"{name}: {off} of {rows} rows off, worst {ulps(one.ulp)} ULP")
        axis.set_xlabel("class")
        axis.set_ylabel("row")
        bar = figure.colorbar(image, ax=axis)
        bar.set_label("largest error, ULP")
    kind = file.suffix.lower().lstrip(".") or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise BadInput(f"--plot {file.name}: wanted a file that ends in .png, .svg or .pdf")
    figure.savefig(file, format=kind, dpi=150)
