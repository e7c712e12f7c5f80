"""The bundle format: the manifest, and reading and writing bundles."""
