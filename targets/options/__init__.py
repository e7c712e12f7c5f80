"""Options that several targets offer."""
