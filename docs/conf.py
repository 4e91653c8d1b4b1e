"""Sphinx configuration: ``sphinx-build -W docs build/docs`` after installing the extra ``docs``."""

import xp_xent

project = "xp_xent"
author = "The xp_xent developers"
copyright = "2026, The xp_xent developers"  # noqa: A001 (Sphinx's name)
release = xp_xent.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "sphinx.ext.mathjax", "myst_parser"]
html_theme = "furo"
html_extra_path = ["_extra"]  # heat-map.html, the conformance report to click through
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which types cannot
default_role = "code"
