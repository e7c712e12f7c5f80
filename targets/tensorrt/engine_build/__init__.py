"""Building an engine in a child process, here or later on the machine with the GPU."""
