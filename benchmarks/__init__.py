"""Costs side by side: what the provider adds to what one would have without it. `python -m benchmarks --help`."""
