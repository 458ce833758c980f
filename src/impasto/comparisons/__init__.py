"""Score finished pictures with networks that did not paint them."""
