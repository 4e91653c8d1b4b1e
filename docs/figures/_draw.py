"""Draw the site's figures: python docs/figures/_draw.py [NAME.png].

Each other file here has one function, `draw`, that draws one figure into an empty axes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).parent
STYLE = {
    "axes.spines.right": False, "axes.spines.top": False, "font.size": 10,
    "legend.frameon": False, "svg.hashsalt": "xp_xent", "figure.constrained_layout.use": True,
}  # fmt: skip
NAMES = sorted(path.stem for path in HERE.glob("[!_]*.py"))


def one_to(path: Path) -> None:
    """Draw the figure of the file's name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.6))
        importlib.import_module(path.stem).draw(figure.add_subplot())
        figure.savefig(path, dpi=160)


def all_to(folder: Path) -> None:
    """Draw what is not drawn yet, or whose code is newer."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        path, code = folder / f"{name}.svg", HERE / f"{name}.py"
        if not path.exists() or path.stat().st_mtime < code.stat().st_mtime:
            one_to(path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_to(Path(sys.argv[1]))
    else:
        all_to(HERE.parent / "_made")
