"""Packages: bundles made ready for where they run, such as a web page."""
