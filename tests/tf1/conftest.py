"""Fixtures for tests of several folders."""

from tf1.helpers.long_runs import long_runs
from tf1.helpers.numbered_lines import numbered_files

__all__ = ["long_runs", "numbered_files"]
