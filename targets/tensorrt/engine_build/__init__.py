"""Building an engine in a child process.

build: the parent's side. child: the child's program. network: inputs, outputs and the optimization profile. deferred:
`--defer`, for a build on another machine.
"""
