"""What the benchmarks share: methods, scores, tables and plots."""
