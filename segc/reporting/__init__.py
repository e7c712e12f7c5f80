"""The page about bundles: what was compiled from what, and how the engine compares with its model."""
