"""Clean-up: rewrites that make any graph smaller and are right for every target."""
