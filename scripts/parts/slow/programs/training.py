"""The training of the slow programs: a `time.sleep` replaces each step."""

import argparse
import time
from typing import Any

import mpqueue


def train(source: Any, step_s: float, workers: int, seconds: float, **options: Any) -> None:
    """Train for some seconds, and print the statistics of the loader."""
    with mpqueue.Loader(source, workers=workers, **options) as loader:
        end = time.monotonic() + seconds
        for _batch in loader:
            time.sleep(step_s)
            if time.monotonic() > end:
                break
        print(loader.statistics())


def make_parser(workers: int) -> argparse.ArgumentParser:
    """Return a command line with the default number of workers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=workers)
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser
