"""Loading and running bundles: NumPy, OpenCV and the target's runtime, never torch."""
