"""Servers that a test starts have a folder for themselves."""

from helpers.homes import servers_home

__all__ = ["servers_home"]
