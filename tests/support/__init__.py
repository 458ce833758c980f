"""Helpers that several test files and the programs they start share."""
