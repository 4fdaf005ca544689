"""Fixtures of the monitor's tests."""

from helpers.homes import servers_home

__all__ = ["servers_home"]
