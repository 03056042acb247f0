"""The words of the house: they know nothing but torch."""
