"""The files of a net: writing and reading them back, the list of layers, the C++ example."""
