"""The steps of one compile: the request, its settings, where masks are made, the parity gate, the manifest."""
