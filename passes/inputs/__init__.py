"""What the graph takes: fixed shapes, uint8 images."""
