"""The parts of a street scene, each in a file of its own."""
