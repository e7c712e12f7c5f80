"""Where an engine comes to differ from its source: in which pass, at which node, in the runtime."""
