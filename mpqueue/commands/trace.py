"""The command ``mpqueue trace``: a summary of a trace, as text or JSON. Perfetto draws traces."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mpqueue.commands import frame
from mpqueue.commands.trace_read import NoTrace, read
from mpqueue.commands.trace_summary import lines, summary_of

_EXAMPLES = """\
examples:
  mpqueue trace run.json
  mpqueue trace run.json --start 2 --end 2.5     half a second of it
  mpqueue trace run.json --json

trace="run.json" of a loader, or MPQUEUE_TRACE, writes the file. https://ui.perfetto.dev draws it.
exit status: 0; 1: a worker died, or the trace is incomplete"""


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
    return int(bool(found.deaths) or found.is_broken)


def _make_parser() -> argparse.ArgumentParser:
    parser = frame.make_parser("trace", "Tell what a trace holds: rows, times of spans, deaths.", _EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE", help="a trace, as JSON")
    add("--start", type=float, default=0.0, metavar="S", help="second at which to begin (default: 0)")
    add("--end", type=frame.positive, metavar="S", help="second at which to end (default: the last)")
    return parser
