"""Run the commands of docs/operations/slow.md, and write their output into the page."""

import argparse
from collections.abc import Sequence

from parts.machine import ROOT
from parts.slow.printed import with_current_output

PAGE = ROOT / "docs" / "operations" / "slow.md"


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=description).parse_args(arguments)
    PAGE.write_text(with_current_output(PAGE.read_text("utf-8")), "utf-8")
    return 0
