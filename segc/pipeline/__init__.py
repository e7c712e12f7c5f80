"""Pipelines of passes: what a pipeline is, the stages of each target, and hooks around passes."""
