"""Search for the pixels that minimise the loss."""
