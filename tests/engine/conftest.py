"""The fixtures of servers."""

from helpers.homes import servers_home

__all__ = ["servers_home"]
