"""Paint a photo with every combination of some settings."""
