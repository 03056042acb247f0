"""A report as people see it: page, Markdown, terminal."""
