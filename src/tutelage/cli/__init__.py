"""The command line's face of the house."""
