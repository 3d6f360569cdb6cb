"""Speed comparisons: ``python -m benchmarks.simulators``."""
