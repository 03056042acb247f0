"""Compression as stages of a recipe: made, healed, measured, and one file chosen on validation."""
