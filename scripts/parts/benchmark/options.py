"""The command line of `scripts/benchmark.py`. Nothing that must be installed is imported here, so that --help works."""

import argparse
from pathlib import Path


def parse(about: str) -> argparse.Namespace:
    """Return the parsed command line; `--help` prints the usage and ends the process."""
    parser = argparse.ArgumentParser(
        description=about,
        epilog="--list names workloads and feeds. In the clone (with pip 25.1 or newer), "
        "`python3 -m pip install . --group plots --group peers` installs what plots need, and the peers.",
    )
    parser.add_argument("--workers", type=int, help="worker processes (default: one per CPU)")
    parser.add_argument(
        "--workloads", type=_names, metavar="NAME,...", help="some workloads, or tf1 pipelines, or files"
    )
    parser.add_argument("--only", type=_names, metavar="NAME,...", help="some feeds (default: all that are installed)")
    parser.add_argument(
        "--files-mb", type=int, default=64, metavar="MB", help="size of the sets of files (default: 64)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="at most ten minutes: what figures to be reached need, short rounds"
    )
    parser.add_argument("--rounds", type=int, help="so many whole rounds, however long they take (default: at most 3)")
    parser.add_argument("--minutes", type=float, help="how long it may take (default: 30; with --quick 10)")
    parser.add_argument("--list", action="store_true", help="list what can be measured, and what is installed")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    parser.add_argument(
        "--join", type=Path, nargs="+", metavar="FILE",
        help="measure nothing: write runs of different workloads, as --json wrote them, to --json as one",
    )  # fmt: skip
    parser.add_argument(
        "--draw-files", type=Path, metavar="FILE",
        help="measure nothing: draw the table of docs/files.md of what --workloads files --json has written",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the rates into this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a Measurement; one of our own processes asks for it
    options = parser.parse_args()
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes must be above 0, got {options.minutes:g}")
    if options.join and not options.json:
        parser.error("--join needs --json FILE, in which the whole is written")
    for name, file in (("json", options.json), ("plot", options.plot)):  # now, and not after all was measured
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            parser.error(f"--{name} must be a file in a folder that exists, got {file}")
    if options.files_mb < 1:
        parser.error(f"--files-mb must be at least 1, got {options.files_mb}")
    return options


def _names(text: str) -> list[str]:
    """Names, separated by commas."""
    return [name.strip() for name in text.split(",")]
