"""Ops of the segc dialect: recognize them in graphs, and lower them to standard ops."""
