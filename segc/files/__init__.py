"""Files and folders that appear complete or not at all, even if the process is killed."""
