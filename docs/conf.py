"""Sphinx configuration: ``sphinx-build -W docs build/docs`` after installing the extra ``docs``."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import xp_xent

HERE = Path(__file__).parent

project = "xp_xent"
author = "The xp_xent developers"
copyright = "2026, The xp_xent developers"  # noqa: A001 (Sphinx's name)
release = xp_xent.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax in the built site: it is read without a network
    "sphinx_copybutton",
    "sphinx_design",
    "myst_parser",
]
html_theme = "furo"
html_title = "xp_xent"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]  # heat-map.html, the conformance report to click through
exclude_patterns = ["figures", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which types cannot
default_role = "code"


def draw(app: Any) -> None:
    """Draw the pages' figures before they are read, away from Sphinx's logging."""
    subprocess.run([sys.executable, HERE / "figures" / "_draw.py"], check=True)


def setup(app: Any) -> None:
    """Draw at the start of a build."""
    app.connect("builder-inited", draw)
