"""What is probably wrong with logits and targets, found in one walk over them."""
