"""Running code in child processes, so that a crash or a hang ends the child and not the caller."""
