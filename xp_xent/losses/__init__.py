"""The public losses: signatures and documentation."""
