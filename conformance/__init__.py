"""Vectors with certified answers, and the tolerances that go with them."""

from xp_xent.conformance._load import Expected, Host, Vector, load, names

__all__ = ["Expected", "Host", "Vector", "load", "names"]
