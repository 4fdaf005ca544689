"""The command ``mpqueue``, which is also ``python -m mpqueue``: a table of commands, each in a file of its own.

A command's module has ``main(arguments) -> exit status``; it is imported when it is called.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mpqueue.commands import frame
from mpqueue.version import __version__

COMMANDS = {
    "doctor": ("mpqueue.commands.doctor", "look for what would hold up training on this machine"),
    "bench": ("mpqueue.commands.bench", "measure how fast your own source can be loaded, and say what to change"),
    "top": ("mpqueue.commands.top", "watch every loader, enqueuer, server and consumer of this user"),
    "trace": ("mpqueue.commands.trace", "tell what a trace holds, and draw it"),
    "index": ("mpqueue.commands.index", "make the index of files ahead, and remove old ones"),
    "serve": ("mpqueue.commands.serve", "serve the batches of one source to many trainers"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; return its exit status."""
    found = _make_parser().parse_args(arguments)
    try:
        command = import_module(COMMANDS[found.command][0])
        status: int = command.main(found.arguments)
        sys.stdout.flush()
    except frame.Missing as error:
        frame.tell(found.command, str(error))
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain at its end
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
            "mpqueue COMMAND --help says more of one, with an example; all take --json.\n"
            "exit status: 0; 1: something was found, or has failed; 2: the command line is wrong"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpqueue {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
