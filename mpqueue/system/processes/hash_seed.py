"""One hash seed for all worker processes, so that a set of strings has the same order in each of them.

CPython salts the hashes of strings, with a random salt per interpreter. A forked worker has its parent's salt, but a
fork server and a spawned worker would draw their own. A stream must be the same for any number of workers, after a
worker crash, after a resume, and in another run of the trainer. So the salt is a constant. If the user sets
``PYTHONHASHSEED``, that value applies to the trainer and to the workers.

A salt derived from the stream's seed would work, too. But seeds differ between streams unless the user sets one, so
that a parked fork server could serve no other stream: most starts would cost an interpreter and all imports of the
source.

Workers that are forked from the trainer have the trainer's salt. An interpreter that ignores its environment (``-E``,
``-I``) has its own.
"""

import os
from collections.abc import Mapping

VARIABLE = "PYTHONHASHSEED"
_CONSTANT = "1836085349"  # any number except 0, which would disable the salt


def chosen_hash_seed(environ: Mapping[str, str]) -> str:
    """Return the hash seed of interpreters that are started as workers."""
    chosen = environ.get(VARIABLE, "")
    return chosen if chosen.isdecimal() else _CONSTANT  # "" and "random" are not a choice


def with_hash_seed(environ: Mapping[str, str], seed: str) -> dict[str, str]:
    """Return the environment for an interpreter with this hash seed."""
    return {**environ, VARIABLE: seed}


def show(seed: str | None) -> None:
    """Set this process's variable to the trainer's value; remove it if that is None."""
    if seed is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = seed
