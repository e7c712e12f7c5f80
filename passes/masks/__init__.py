"""Everything between the logits and the mask."""
