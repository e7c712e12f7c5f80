"""Why a target refuses a node."""
