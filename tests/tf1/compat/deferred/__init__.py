"""Interpreters of golden topics that make nodes and run them, as the cases were made."""
