"""Show what the network sees of a photo and a painting."""
