"""Servers of a test have a separate directory."""

from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]
