"""Servers that a test starts have a folder for themselves."""

from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]
