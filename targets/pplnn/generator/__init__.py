"""Generates capabilities.json from facts.json. generate: the program. rules: what the prose of the facts means."""
