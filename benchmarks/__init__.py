"""Benchmarks: run ``python -m benchmarks`` and ``python -m benchmarks.quality``."""
