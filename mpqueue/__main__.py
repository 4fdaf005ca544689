"""The command ``mpqueue``, which is also ``python -m mpqueue``: a table of commands, each in a file of its own.

A command's module has ``main(arguments) -> exit status``; it is imported when it is called.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {"serve": ("mpqueue.service.command", "serve the batches of one source to many trainers")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return its exit status."""
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="mpqueue",
        description=f"commands:\n{table}",
        epilog="mpqueue COMMAND --help says more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpqueue {import_module('mpqueue').__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    found = parser.parse_args(arguments)
    status: int = import_module(COMMANDS[found.command][0]).main(found.arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
