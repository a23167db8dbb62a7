"""Operators on arrays: a reference, a CPU version and a GPU version of each."""
