"""Command-line options that several targets offer. half: `--set half=...`. winograd: `--set winograd=...`."""
