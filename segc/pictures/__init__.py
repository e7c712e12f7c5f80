"""Pictures larger than memory: windows of TIFF files are read, segmented and written one after the other."""
