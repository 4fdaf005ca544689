"""The command ``mpqueue bench``: measures how fast a source can be loaded, and recommends options."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from mpqueue.commands import frame
from mpqueue.commands.factories import NotFound, source_of
from mpqueue.commands.loader_options import add_loader_options

_EXAMPLES = """\
examples:
  mpqueue bench data.py:Photos
  mpqueue bench mypackage.data:make_samples --batch-size 64 --shuffle
  mpqueue bench data.py:Photos --step-ms 40 --workers 4     a training step of 40 ms; 4 workers are used now
  mpqueue bench data.py:Texts --batch-size 32 --shuffle --world 8 --cost length     how equal the work of 8 ranks is

The last line recommends a number of workers and states the gain. With --world and --cost, nothing is loaded, and the
last line recommends a balance.
exit status: 0; 1: the source has failed"""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the result, and return the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if (options.world is None) != (options.cost is None):
        parser.error("--world and --cost are needed together: the number of ranks, and the cost of each sample")
    if options.world is not None and options.world < 2:
        parser.error(f"--world must be 2 or more, got {options.world}")
    try:
        source = source_of(options.factory)
    except NotFound as error:
        parser.error(str(error))
    except Exception:
        traceback.print_exc()
        frame.tell("bench", f"{options.factory} has failed")
        return 1
    return _run(parser, source, options)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = frame.make_parser(
        "bench",
        "Measure how fast your own source can be loaded, by how many workers, and recommend options.",
        _EXAMPLES,
        usage="mpqueue bench MODULE:FACTORY | FILE.py:FACTORY [options]",
    )
    add = parser.add_argument
    add("factory", metavar="FACTORY", help="callable without arguments that makes the source; or a generator function")
    add(
        "--step-ms",
        type=frame.positive,
        metavar="MS",
        help="time of your training step for one batch, without loading",
    )
    add("--seconds", type=frame.positive, default=2.0, help="time to measure each number of workers (default: 2)")
    add("--most-workers", type=frame.count, metavar="N", help="the largest number to try (default: by the CPUs)")
    add("--only", choices=("process", "thread"), help="try only this kind of workers (default: both)")
    add("--world", type=frame.count, metavar="N", help="compare the work of this number of ranks; needs --cost")
    add("--cost", metavar="NAME", help="column or attribute of the source with the cost of each sample; needs --world")
    add_loader_options(
        parser,
        workers={"type": frame.count, "help": "your present number (default: one per CPU)"},
        threads={"help": "your present number of threads of a worker (default: 1)"},
        backend={"choices": ("process", "thread"), "help": "your present backend (default: process)"},
        trace={"help": "write a timeline of your present setting for Perfetto"},
    )
    return parser


def _run(parser: argparse.ArgumentParser, source: Any, options: argparse.Namespace) -> int:
    from mpqueue.commands.bench.measure import Present, explore, first_batch
    from mpqueue.loader.loader import Loader
    from mpqueue.plan.options.options import LoaderOptions

    made = {name: value for name, value in vars(options).items() if name in LoaderOptions.__annotations__}
    if options.world is not None:
        return _compare_ranks(parser, source, options, made)
    try:
        # Created without a start: invalid options are errors of the command line, not of the source.
        Loader(source, **made).close()
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        present = Present.of(made)
        batch = first_batch(source, made)
        results = explore(source, batch, made, present, options, _progress(options))
    except Exception:
        traceback.print_exc()
        frame.tell("bench", "the source has failed")
        return 1
    return _report(options, batch.arrays, results)


def _compare_ranks(
    parser: argparse.ArgumentParser, source: Any, options: argparse.Namespace, made: dict[str, Any]
) -> int:
    from mpqueue.commands.bench.ranks import compare

    try:
        found = compare(source, options.cost, options.world, made)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    except Exception:
        traceback.print_exc()
        frame.tell("bench", "the source has failed")
        return 1
    if options.json:
        frame.print_json({"factory": options.factory} | found._asdict())
    else:
        print("\n".join(found.lines(options.factory)))
    return 0


def _progress(options: argparse.Namespace) -> Callable[[str], None]:
    """Return a function that shows the current measurement on a terminal."""
    if options.json or not sys.stderr.isatty():
        return lambda _text: None
    return lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _report(options: argparse.Namespace, arrays: Sequence[str], results: Any) -> int:
    from mpqueue.commands.bench.advice import advise
    from mpqueue.commands.bench.report import lines

    advice = advise(results)
    if options.json:
        report = asdict(results) | {"arrays": list(arrays), "best": asdict(results.best), "advice": asdict(advice)}
        frame.print_json(report | {"factory": options.factory})
    else:
        print("\n".join(lines(options.factory, arrays, results, advice, frame.width_of(sys.stdout))))
    return 0
