"""Throughput and scaling, with recorded results: ``python -m benchmarks.<name>``."""
