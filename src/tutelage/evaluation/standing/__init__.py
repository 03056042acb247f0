"""How accurate each model is, cut in every way."""
