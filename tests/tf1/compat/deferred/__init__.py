"""Interpreters of golden topics that create nodes and run them, as in the recordings."""
