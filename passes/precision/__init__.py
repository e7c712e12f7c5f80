"""float16: convert a graph, by rule or by measurement, and make its rounding explicit."""
