"""A reader of the docs, who takes every code block at its word."""
