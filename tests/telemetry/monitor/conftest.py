"""Fixtures for the monitor's tests."""

from helpers.server_directories import servers_directory

__all__ = ["servers_directory"]
