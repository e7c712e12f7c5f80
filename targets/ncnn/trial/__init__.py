"""Trial runs of a net that was just written."""
