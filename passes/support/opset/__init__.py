"""How ops are written in older opsets: one file of rules per family of ops, for `lower-opset`."""
