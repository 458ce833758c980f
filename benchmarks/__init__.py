"""What is measured, how, and with what: ``python -m benchmarks``, ``python -m benchmarks.quality``."""
