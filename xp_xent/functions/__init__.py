"""Public functions beside the losses."""
