"""The command ``mpqueue trace``: prints a summary of a trace, or its facts as JSON. Perfetto draws traces."""

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
  mpqueue trace run.json --start 2 --end 2.5     only half a second
  mpqueue trace run.json --json

trace="run.json" of a loader, or MPQUEUE_TRACE, writes the file. https://ui.perfetto.dev draws it.
exit status: 0; 1: a worker crashed, or the trace is incomplete"""


def main(arguments: Sequence[str]) -> int:
    """Read a trace, print its summary, and return the exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        trace = read(options.file)
    except OSError as error:
        parser.error(f"{options.file}: {error.strerror}")
    except NoTrace as error:
        parser.error(f"{options.file} is not a trace: {error}")
    end_s = trace.duration_s if options.end is None else options.end
    if trace.spans and not 0 <= options.start < min(end_s, trace.duration_s):
        parser.error(
            f"--start must be before --end ({end_s:g} s) and the end of the trace ({trace.duration_s:.3f} s), "
            f"got {options.start:g}"
        )
    summary = summary_of(trace, options.start, end_s)
    if options.json:
        frame.print_json({"file": options.file, **asdict(summary)})
    else:
        print("\n".join(lines(options.file, summary, frame.width_of(sys.stdout))))
    return int(bool(summary.deaths) or summary.is_broken)


def _make_parser() -> argparse.ArgumentParser:
    parser = frame.make_parser("trace", "Summarize a trace: rows, times of spans, worker crashes.", _EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE", help="a trace, as JSON")
    add("--start", type=float, default=0.0, metavar="S", help="begin at this second (default: 0)")
    add("--end", type=frame.positive, metavar="S", help="end at this second (default: the last)")
    return parser
