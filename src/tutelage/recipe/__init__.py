"""A whole run as data; the only room that reads all of the others."""
