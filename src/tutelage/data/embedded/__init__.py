"""The data that comes with this package, and the script that made it."""
