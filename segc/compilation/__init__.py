"""The steps of one compile: the request, its settings, the placement of masks, the parity gate, the manifest."""
