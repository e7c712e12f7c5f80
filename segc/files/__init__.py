"""Files and folders that appear whole or not at all, whenever the process ends."""
