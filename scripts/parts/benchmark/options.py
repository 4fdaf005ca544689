"""The command line of `scripts/benchmark.py`. It imports only the standard library, so that --help works."""

import argparse
from pathlib import Path

EPILOG = """--list names workloads and libraries. In the clone (with pip 25.1 or newer),
`python3 -m pip install . --group peers` installs the peers."""


def parse(about: str) -> argparse.Namespace:
    """Return the parsed command line; `--help` prints the usage and ends the process."""
    parser = argparse.ArgumentParser(description=about, epilog=EPILOG)
    parser.add_argument("--workers", type=_count, help="worker processes (default: one per CPU)")
    parser.add_argument("--workloads", type=_names, metavar="NAME,...", help="workloads, or first words such as files")
    parser.add_argument("--only", type=_names, metavar="NAME,...", help="libraries (default: all installed ones)")
    parser.add_argument("--quick", action="store_true", help="ten minutes: only the most important measurements")
    parser.add_argument("--rounds", type=_count, help="complete rounds, without a time limit (default: at most 3)")
    parser.add_argument("--minutes", type=float, help="time limit (default: 30; with --quick 10)")
    parser.add_argument("--list", action="store_true", help="list workloads and libraries, and which are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results; only on a quiet machine")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a Measurement; for child processes of this program
    options = parser.parse_args()
    file = options.json
    if file is not None and (file.is_dir() or not file.parent.is_dir()):  # check before the measurements
        parser.error(f"--json must be a file in an existing folder, got {file}")
    return options


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def _names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",")]
