"""The command ``mpqueue top``: a live table of every loader, enqueuer, server and consumer of this user.

Each update queries all processes at once, see `mpqueue.telemetry.monitor.asking`. A process that does not answer in
time is shown as such.
"""

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from mpqueue.commands import frame
from mpqueue.commands.top_rows import TopRow, rows_of
from mpqueue.commands.top_table import lines
from mpqueue.telemetry.monitor import places
from mpqueue.telemetry.monitor.asking import MonitorAnswer, ask

_EXAMPLES = """\
examples:
  mpqueue top                        on a terminal: until q or Ctrl-C
  mpqueue top --count 1 > now.txt    once; this is the default if the output is not a terminal
  mpqueue top --json --count 60      one line of JSON per second

Servers are always shown, with their consumers. To show loaders, enqueuers and the consumers' own processes, set
MPQUEUE_MONITOR=1 in the environment of the training, or pass monitor=True.
waits: the share of time that the consumer spends waiting for batches: near 100%, the workers are the bottleneck.
exit status: 0; 1: a process does not answer"""
_REDRAW, _HIDE, _SHOW = "\033[H\033[J", "\033[?25l", "\033[?25h"  # terminal codes: clear the screen; the cursor


def main(arguments: Sequence[str]) -> int:
    """Show the table, and return the exit status."""
    options = _make_parser().parse_args(arguments)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()  # the input has the keys
    is_live = is_terminal and not options.json and options.count is None
    status = 0
    with _live_terminal() if is_live else contextlib.nullcontext():
        for answers, rows in _updates(options, is_live=is_live):
            status = int(any(row.trouble for row in rows))
            if options.json:
                frame.print_json(_plain(answers, rows), is_line=True)
            else:
                print(_REDRAW * is_live + "\n".join(lines(rows, frame.width_of(sys.stdout))), flush=True)
    return status


def _make_parser() -> argparse.ArgumentParser:
    parser = frame.make_parser("top", "A table of every loader, enqueuer, server and consumer of this user.", _EXAMPLES)
    add = parser.add_argument
    add("--interval", type=frame.positive, default=1.0, metavar="S", help="seconds between two updates (default: 1)")
    add("--count", type=frame.count, metavar="N", help="number of updates (default: 1 without a terminal)")
    add(
        "--timeout", type=frame.positive, default=0.5, metavar="S", help="time to wait for all processes (default: 0.5)"
    )
    return parser


def _updates(options: argparse.Namespace, *, is_live: bool) -> Iterator[tuple[list[MonitorAnswer], list[TopRow]]]:
    """Yield the answers and rows of each update. Rates need an earlier query, which a single update does not show."""
    before = ask(options.timeout)
    left = options.count if options.count is not None else None if is_live else 1
    if is_live:
        yield before, rows_of(before)
    while left is None or left > 0:
        if not _wait(options.interval, is_live=is_live):
            return
        answers = ask(options.timeout)
        yield answers, rows_of(answers, before)
        before = answers
        left = None if left is None else left - 1


def _wait(seconds: float, *, is_live: bool) -> bool:
    """Wait for the next update; return False if the user has pressed q."""
    if not is_live:
        time.sleep(seconds)
        return True
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # An empty read is the end of the input: the terminal was closed.
        if select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 64)[:1] in {b"q", b"Q", b""}:
            return False
    return True


@contextlib.contextmanager
def _live_terminal() -> Iterator[None]:
    """End normally at Ctrl-C. Have the terminal deliver each key immediately, without echo, and hide its cursor."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        # Not raw mode, in which Ctrl-C would arrive as a key instead of a signal.
        tty.setcbreak(sys.stdin)
        # Inside `try`: the cursor is shown again, whatever ends the display.
        print(end=_HIDE)
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        print(end=_SHOW, flush=True)
        # TCSADRAIN: the output that shows the cursor again is written before the mode changes.
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _plain(answers: Sequence[MonitorAnswer], rows: Sequence[TopRow]) -> dict[str, object]:
    """Return an update for JSON: the rows of the table, and the reports of the processes."""
    processes = [
        {"pid": answer.pid, "socket": answer.path, "trouble": answer.trouble or None, "report": answer.report}
        for answer in answers
    ]
    shown = [asdict(row) for row in rows]
    return {"time": time.time(), "folder": places.folder(), "rows": shown, "processes": processes}
