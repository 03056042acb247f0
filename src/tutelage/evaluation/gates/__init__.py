"""Conditions for shipping."""
