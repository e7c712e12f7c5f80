"""The HTTP server: images in, masks out, with limits on what clients may ask for."""
