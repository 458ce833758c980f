"""Show what the network sees of a photo and a painting."""

# Defaults for the pictures that are computed to show what the network sees.
DEFAULT_SIZE = 256  # long side in pixels
DEFAULT_ITERATIONS = 100
