"""Fixtures of the commands' tests."""

from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]
