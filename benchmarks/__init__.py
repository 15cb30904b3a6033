"""Benchmarks of careflow-storage beside its peers. Run ``python -m benchmarks --help``."""
