"""Defaults of requests that are not settings of a recipe."""

# The pictures that are computed to explain what the network sees.
EXPLAIN_SIZE = 256  # long side in pixels
EXPLAIN_ITERATIONS = 100
