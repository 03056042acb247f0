"""Whole answers: which of several is better, by a label, or by what the teacher says of them."""
