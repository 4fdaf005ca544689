"""The command ``mpqueue trace``: what a trace tells, as text, as JSON or as a picture."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mpqueue.commands import frame
from mpqueue.commands.trace_read import NoTrace, read
from mpqueue.commands.trace_summary import lines, summary_of

_EXAMPLES = """\
examples:
  mpqueue trace run.json
  mpqueue trace run.json --plot run.png --start 2 --end 2.5     a picture of half a second
  mpqueue trace run.json --json

The file is what trace="run.json" of a loader, or MPQUEUE_TRACE, has written; https://ui.perfetto.dev opens it, too.
exit status: 0; 1: it tells of deaths, or broke off"""


def main(arguments: Sequence[str]) -> int:
    """Read a trace, and print its summary; return the exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        trace = read(options.file)
    except OSError as error:
        parser.error(f"{options.file}: {error.strerror}")
    except NoTrace as error:
        parser.error(f"{options.file} is no trace: {error}")
    found = summary_of(trace)
    end_s = trace.duration_s if options.end is None else options.end
    if options.plot and found.kinds and options.start >= min(end_s, trace.duration_s):
        parser.error(
            f"--start {options.start:g} is not before the end of the picture, {end_s:g} s, and of the trace, "
            f"{trace.duration_s:.3f} s"
        )
    if options.json:
        frame.print_json({"file": options.file, **asdict(found)})
    else:
        print("\n".join(lines(options.file, found, frame.width_of(sys.stdout))))
    if options.plot:
        from mpqueue.commands.trace_plot import draw

        try:
            if not found.kinds:
                raise ValueError("there are no spans to be drawn")
            draw(trace, options.plot, os.path.basename(options.file), options.start, end_s)
        except (OSError, ValueError) as error:
            frame.tell("trace", f"no picture: {error}")
            return 1
    return int(bool(found.deaths) or found.is_broken)


def _make_parser() -> argparse.ArgumentParser:
    parser = frame.make_parser("trace", "Tell what a trace holds: rows, times of spans, deaths.", _EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE", help="a trace, as JSON")
    add("--plot", metavar="FILE.png", help="draw it (extra plots)")
    add("--start", type=float, default=0.0, metavar="S", help="second at which the picture begins (default: 0)")
    add("--end", type=frame.positive, metavar="S", help="second at which it ends (default: the last)")
    return parser
