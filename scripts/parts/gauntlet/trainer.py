"""A rank of a trainer: takes batches, writes down what came, and saves states. A process of its own.

It is started by ``python -m parts.gauntlet.trainer`` and a `Task` as JSON, by the interpreter that has the peer. Into
its folder it writes, by single calls, so that a kill leaves whole lines and whole files:

- ``batches``: a line for each batch, the numbers of its samples as JSON, and ``end`` when the epoch is over;
- ``state-N``: the state behind the N-th batch, pickled;
- ``first``: seconds from the imports to the first batch;
- ``error``: why it has ended, if it was by an exception.
"""

import dataclasses
import importlib
import json
import os
import pickle
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from parts.gauntlet.pipeline import Setup

SLOW_S = 0.005


@dataclasses.dataclass(frozen=True)
class Task:
    """The task of one rank.

    Attributes:
        module, feed: Where its feed is.
        folder: Where it writes.
        setup: The fields of its `Setup`.
        states: Files of the states of all ranks that it goes on from; None: from the beginning.
        save_every: Batches between two states.
        slow_from: From this batch on it is slow, so that who kills it can do so near there; -1: never.
    """

    module: str
    feed: str
    folder: str
    setup: dict[str, Any]
    states: list[str] | None = None
    save_every: int = 16
    slow_from: int = -1

    def run(self) -> None:
        """Train."""
        fields = self.setup | {"sizes": tuple(self.setup["sizes"])}
        make = getattr(importlib.import_module(f"parts.gauntlet.{self.module}"), self.feed)
        began = time.perf_counter()
        states = None if self.states is None else [pickle.loads(Path(file).read_bytes()) for file in self.states]
        log = os.open(os.path.join(self.folder, "batches"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with make(Setup(**fields), states) as running:
            for count, batch in enumerate(running.batches, 1):
                if count == 1:
                    self._write("first", str(time.perf_counter() - began).encode())
                os.write(log, json.dumps(batch).encode() + b"\n")
                if count % self.save_every == 0:
                    self._write(f"state-{count}", pickle.dumps(running.state()))
                if 0 <= self.slow_from <= count:
                    time.sleep(SLOW_S)
            os.write(log, b"end\n")

    def fail(self, error: BaseException) -> None:
        """Write down why it has ended: the last line of what it says, or the line of code if it says nothing."""
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        code = traceback.extract_tb(error.__traceback__)[-1].line
        kind = type(error).__name__
        if not said:
            told = f"{kind} at: {code}"
        elif "Traceback" in str(error):  # of a worker, which ends with the kind
            told = said[-1]
        else:
            told = f"{kind}: {' '.join(said)}"
        self._write("error", told.encode())

    def _write(self, name: str, content: bytes) -> None:
        unfinished = Path(self.folder) / f"{name}.unfinished"
        unfinished.write_bytes(content)
        unfinished.rename(unfinished.with_suffix(""))


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    if task.feed == "prepare":
        fields = task.setup | {"sizes": tuple(task.setup["sizes"])}
        importlib.import_module(f"parts.gauntlet.{task.module}").prepare(Setup(**fields))
        return
    try:
        task.run()
    except Exception as error:
        task.fail(error)
        raise


if __name__ == "__main__":  # workers that are spawned import this file
    main()
