"""Benchmarks with ground truth: ``python -m benchmarks.shared_parts`` and ``python -m benchmarks.pair_grid``."""
