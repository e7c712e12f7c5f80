"""The support matrix: which model compiles for which target, as measured."""
