"""Runs the commands of docs/slow.md, and writes what they print into it."""

import argparse
from collections.abc import Sequence

from parts.machine import ROOT
from parts.slow.printed import printed_anew

PAGE = ROOT / "docs" / "slow.md"


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=description).parse_args(arguments)
    PAGE.write_text(printed_anew(PAGE.read_text("utf-8"), PAGE.parent), "utf-8")
    return 0
