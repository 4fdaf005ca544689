"""The options of `mpqueue.Loader` on the command lines of ``mpqueue serve`` and ``mpqueue bench``."""

import argparse
from collections.abc import Mapping
from typing import Any

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--workers": {"type": int, "help": "worker processes (default: one per CPU)"},
    "--max-queue-size": {"type": int, "help": "batches computed ahead (default: 10)"},
    "--seed": {"type": int, "help": "seed of shuffled orders and random numbers"},
    "--shuffle": {"action": "store_true", "help": "a new order for every epoch"},
    "--batch-size": {"type": int, "help": "number of samples per batch (default: an item is a batch)"},
    "--drop-last": {"action": "store_true", "help": "drop a last batch that is short"},
    "--unordered": {"dest": "ordered", "action": "store_false", "help": "return batches as soon as they are ready"},
    "--on-error": {"choices": ("raise", "skip"), "help": "effect of an exception of the source"},
    "--max-errors": {"type": int, "help": "maximum number of skipped samples per epoch"},
    "--lanes": {"type": int, "help": "virtual shards of a stream, which determine its order"},
    "--epoch-batches": {"type": int, "help": "batches per epoch and rank of a stream"},
    "--threads": {"type": int, "help": "threads of a worker that compute the samples of a batch"},
    "--concurrency": {"type": int, "help": "samples in flight of a worker, for an asynchronous source"},
    "--restarts": {"type": int, "help": "number of workers that may crash over one batch"},
    "--batch-timeout": {"type": float, "help": "maximum time for one batch, in seconds"},
    "--max-batch-bytes": {"type": int, "help": "maximum size of a batch; a larger batch is an error"},
    "--backend": {
        "choices": ("process", "ray"),
        "help": "worker processes here (default), or on the nodes of a Ray cluster",
    },
    "--trace": {"metavar": "FILE.json", "help": "write a timeline for Perfetto"},
    "--start-method": {"metavar": "{forkserver,fork,spawn}", "help": "how workers are started"},
}


def add_loader_options(parser: argparse.ArgumentParser, **different: Mapping[str, Any]) -> None:
    """Add the options to a parser. Options that are not passed are absent, so that the defaults of the class apply.

    Args:
        parser: The parser.
        **different: Other arguments of ``add_argument`` for an option, by the option's name in Python.
    """
    group = parser.add_argument_group("batches (options of mpqueue.Loader)", argument_default=argparse.SUPPRESS)
    for flag, arguments in _OPTIONS.items():
        name = flag.removeprefix("--").replace("-", "_")
        group.add_argument(flag, **{**arguments, **different.get(name, {})})
