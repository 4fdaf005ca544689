"""A rank of a trainer in a separate process: takes batches, logs them, and saves states.

It is started by ``python -m parts.gauntlet.trainer`` with a `Task` as JSON, in the peer's interpreter. Each write is
one system call, so that a kill leaves only complete lines and files in its folder:

- ``batches``: a line for each batch with the numbers of its samples as JSON, and ``end`` after the epoch;
- ``state-N``: the pickled state after the N-th batch;
- ``first``: seconds from the imports to the first batch;
- ``error``: the exception that ended it, if any.
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
        module, feed: Module and name of its feed.
        folder: Folder of its files.
        setup: The fields of its `Setup`.
        states: Files of the states of all ranks to resume from, or None to start from the beginning.
        save_every: Number of batches between two states.
        slow_from: Number of the batch that starts a slow phase, so that a kill happens near it; -1 for never.
    """

    module: str
    feed: str
    folder: str
    setup: dict[str, Any]
    states: list[str] | None = None
    save_every: int = 16
    slow_from: int = -1

    def function(self) -> Any:
        """Return the function that prepares the sets, or feeds them."""
        return getattr(importlib.import_module(f"parts.gauntlet.{self.module}"), self.feed)

    def run(self) -> None:
        """Train."""
        make = self.function()
        began = time.perf_counter()
        states = None if self.states is None else [pickle.loads(Path(file).read_bytes()) for file in self.states]
        log = os.open(os.path.join(self.folder, "batches"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with make(Setup(**self.setup), states) as running:
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
        """Write the reason of the failure: the error message, or the line of code if the message is empty."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        code = traceback.extract_tb(error.__traceback__)[-1].line
        kind = type(error).__name__
        if not lines:
            reason = f"{kind} at: {code}"
        elif "Traceback" in str(error):  # of a worker; it ends with the type of the exception
            reason = lines[-1]
        else:
            reason = f"{kind}: {' '.join(lines)}"
        self._write("error", reason.encode())

    def _write(self, name: str, content: bytes) -> None:
        unfinished = Path(self.folder) / f"{name}.unfinished"
        unfinished.write_bytes(content)
        unfinished.rename(unfinished.with_suffix(""))


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    if task.feed == "prepare":
        task.function()(Setup(**task.setup))
        return
    try:
        task.run()
    except Exception as error:
        task.fail(error)
        raise


if __name__ == "__main__":  # spawned workers import this file
    main()
