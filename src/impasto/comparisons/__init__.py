"""Scores of finished pictures from networks that did not paint them."""
