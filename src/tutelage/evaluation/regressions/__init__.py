"""What became wrong, and whether that is more than luck."""
