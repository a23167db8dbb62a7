"""Benchmarks: one script a question; each is gated on correctness and names machine and commit."""
