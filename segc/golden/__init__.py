"""Golden kits: a bundle with inputs, reference outputs and a checker for a machine that has the runtime alone."""
