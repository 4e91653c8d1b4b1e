"""The way of a call: plan, validate, prepare, execute, reduce."""
