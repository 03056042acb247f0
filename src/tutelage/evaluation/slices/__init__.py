"""Slices: parts of the test examples that can be named, and where a student may have got worse."""
