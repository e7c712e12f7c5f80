"""Evaluation on labelled images: labels, areas, scores, and what is left of an evaluation that was stopped."""
