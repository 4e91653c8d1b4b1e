"""Whether pipelines compute the same loss, and what is wrong with one: on arrays in files.

The commands ``xp-xent backends``, ``diagnose`` and ``loss`` are here too.
"""

from xp_xent.verify._stored import BadInput

__all__ = ["BadInput"]
