"""Generates capabilities.json from facts.json."""
