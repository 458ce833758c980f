"""What is measured, how, and with what: each module is a command, ``python -m benchmarks.NAME``."""
