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
  mpqueue trace run.json --start 2 --end 2.5                    what happened in half a second
  mpqueue trace run.json --start 2 --end 2.5 --plot run.png     and a picture of it
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
    end_s = trace.duration_s if options.end is None else options.end
    if trace.spans and not 0 <= options.start < min(end_s, trace.duration_s):
        parser.error(
            f"--start {options.start:g} is not before the end of the part, {end_s:g} s, and of the trace, "
            f"{trace.duration_s:.3f} s"
        )
    found = summary_of(trace, options.start, end_s)
    if options.json:
        frame.print_json({"file": options.file, **asdict(found)})
    else:
        print("\n".join(lines(options.file, found, frame.width_of(sys.stdout))))
    if options.plot:
        from mpqueue.commands.trace_plot import draw

        try:
            if not trace.spans:
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
    add("--start", type=float, default=0.0, metavar="S", help="second at which to begin (default: 0)")
    add("--end", type=frame.positive, metavar="S", help="second at which to end (default: the last)")
    return parser
