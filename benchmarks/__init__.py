"""Benchmarks, a folder for what each measures; ``python -m benchmarks.NAME`` runs one."""
