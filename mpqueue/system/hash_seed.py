"""One hash seed for all worker processes, so that a set of strings has the same order in each of them.

CPython salts the hashes of strings, once per interpreter. A forked worker has its parent's salt; a fork server, and a
worker that is an interpreter of its own, would draw one each. But a stream of batches is promised to be the same for
any number of workers, after a death, after a resume, and in another run of the trainer. So the salt has to follow from
what all of these have in common; the simplest such salt is a constant. (A salt that follows from the stream's seed
would keep the promise, too. But seeds differ from stream to stream unless the user gives one, and a parked fork server
would serve no other stream: most starts would cost an interpreter and all the imports of the source.) A user who sets
``PYTHONHASHSEED`` has chosen, for the trainer and for the workers.

Workers that are forked from the trainer have the trainer's salt. An interpreter that ignores its environment (``-E``,
``-I``) has one of its own.
"""

import os
from collections.abc import Mapping

VARIABLE = "PYTHONHASHSEED"
_CONSTANT = "1836085349"  # any number but 0, which would turn the salt off


def chosen_hash_seed(environ: Mapping[str, str]) -> str:
    """Return the hash seed of interpreters that are started for workers."""
    chosen = environ.get(VARIABLE, "")
    return chosen if chosen.isdecimal() else _CONSTANT  # "" and "random" choose nothing


def with_hash_seed(environ: Mapping[str, str], seed: str) -> dict[str, str]:
    """Return the environment for an interpreter with this hash seed."""
    return {**environ, VARIABLE: seed}


def show(seed: str | None) -> None:
    """Let this process's environment say what the trainer's says, None: nothing, whatever it was started with."""
    if seed is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = seed
