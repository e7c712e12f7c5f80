"""Videos, cameras, addresses and standard input: frames are decoded, segmented and written while others follow."""
