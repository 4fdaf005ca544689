"""The command ``mpqueue``, also available as ``python -m mpqueue``: a table of subcommands.

The module of a subcommand has ``main(arguments) -> exit status``, and is imported when the subcommand is called.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mpqueue.commands import frame
from mpqueue.version import __version__

COMMANDS = {
    "doctor": ("mpqueue.commands.doctor.doctor", "find problems of this machine that slow down training"),
    "bench": ("mpqueue.commands.bench.bench", "measure how fast your source can be loaded, and suggest changes"),
    "state": ("mpqueue.commands.state.state", "show the positions of loaders that were saved in a file"),
    "serve": ("mpqueue.commands.serve", "serve the batches of one source to many trainers"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return its exit status."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell has closed it
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - until the end of the program
    options = _make_parser().parse_args(arguments)
    try:
        command = import_module(COMMANDS[options.command][0])
        status: int = command.main(options.arguments)
        sys.stdout.flush()
    except frame.Missing as error:
        frame.tell(options.command, str(error))
        return 2
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python prints an error when it exits
        return 141
    except KeyboardInterrupt:
        return 130
    return status


def _make_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="mpqueue",
        description=f"commands:\n{table}",
        epilog=(
            "Run mpqueue COMMAND --help for details and an example. All commands accept --json.\n"
            "exit status: 0: success; 1: a problem was found, or the command failed; 2: invalid command line"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpqueue {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
