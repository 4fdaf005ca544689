"""Fixtures for tests of several folders."""

from tf1.helpers.numbered_lines import numbered_files

__all__ = ["numbered_files"]
