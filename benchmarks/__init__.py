"""How fast and how lean the losses are, beside the libraries' own; ``xp-xent bench`` runs it."""

__all__ = []
