"""The processes of a server and of its consumers, which are killed at random moments. Each writes a log.

    A EPOCH                   a consumer has attached
    G EPOCH POSITION BYTES    it received a batch of this size with the expected content
    D                         it has received all epochs that count, and continues until SIGTERM
    C TEXT                    the server has disconnected it
    ! TEXT                    an error

A line is written by one system call, so a kill cannot leave a partial line. The processes are forked from the soak,
which has imported all modules that they need, so they start fast.
"""

import contextlib
import faulthandler
import functools
import logging
import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from helpers.batch_trees import same

import mpqueue
from mpqueue.errors import ConsumerDied
from parts.benchmark.sizes import array_bytes
from parts.soak import content
from parts.soak.rounds import Deviation

CUT_OFF = 3  # exit status of a consumer that the server has disconnected
_WRONG = 4
_ATTACH_S = 60.0
_KEPT = 12


@dataclass
class Plan:
    """The options of one server and its consumers.

    Attributes:
        seed: Seed of the content.
        name: Name of the server.
        folder: Folder of the logs and the journal.
        length: Batches per epoch.
        num_epochs: Epochs that count.
        options: Options of the server.
        pace_s: Maximum time in seconds that a consumer takes for a batch.
    """

    seed: int
    name: str
    folder: str
    length: int
    num_epochs: int
    options: dict[str, Any] = field(default_factory=dict)
    pace_s: float = 0.0

    @property
    def has_journal(self) -> bool:
        """True if the server may be killed."""
        return self.options.get("journal") is not None


class Numbered:
    """Batches that contain their index.

    Args:
        seed: Seed of the content.
        length: Number of batches.
    """

    def __init__(self, seed: int, length: int) -> None:
        self.seed, self.length = seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return {"index": np.array([index]), "content": content.batch(self.seed, 0, index)}


class Child:
    """A forked process that runs a function.

    Args:
        log: Path of its log.
        work: The function. It is called with a function that writes a line, and returns the exit status.
    """

    def __init__(self, log: str, work: Callable[[Callable[[str], None]], int]) -> None:
        self.log = log
        self._process = multiprocessing.get_context("fork").Process(target=_be, args=(log, work))
        self._process.start()
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status as in `subprocess`, or None if the process is running."""
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Send a signal, unless the process has exited."""
        if self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, and wait until it has exited."""
        self._process.kill()
        self._process.join()

    def lines(self) -> list[str]:
        """Return the lines of the log."""
        with contextlib.suppress(FileNotFoundError), open(self.log) as file:
            return file.read().splitlines()
        return []


class Consumer(Child):
    """A process that consumes batches.

    Args:
        plan: The options of the server and its consumers.
        number: Number of the consumer, from 1.
        rank: Its rank, or None without ranks.
        join: Where it begins.
        seed: Seed of its pauses.
    """

    def __init__(self, plan: Plan, number: int, rank: int | None, join: str, seed: int) -> None:
        self.name, self.number, self.rank, self.join, self._plan = f"consumer{number}", number, rank, join, plan
        super().__init__(os.path.join(plan.folder, self.name), partial(consume, plan, rank, join, seed))

    @property
    def is_done(self) -> bool:
        """True if the process has logged that it received all epochs."""
        return "D" in self.lines()

    @functools.cached_property
    def batches(self) -> list[list[int]]:
        """Epoch, position and bytes of each batch that it has received, once it has ended.

        Raises:
            Deviation: It has logged an error.
        """
        lines = self.lines()
        wrong = [line for line in lines if line.startswith("!")]
        if wrong:
            raise Deviation(f"{self.name}: {wrong}")
        return [list(map(int, line.split()[1:])) for line in lines if line.startswith("G")]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Epoch and position of each batch of the epochs that count."""
        return [(epoch, at) for epoch, at, _ in self.batches if epoch < self._plan.num_epochs]


def _be(log: str, work: Callable[[Callable[[str], None]], int]) -> None:
    status = _WRONG
    try:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.enable()
        # Hides the message that a consumer that keeps batches gets copies.
        logging.getLogger("mpqueue").setLevel(logging.ERROR)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

        def write(line: str) -> None:
            os.write(fd, f"{line}\n".encode())

        try:
            status = work(write)
        except BaseException:
            write("! " + traceback.format_exc().replace("\n", " | "))
    finally:
        os._exit(status)


def serve(plan: Plan, write: Callable[[str], None]) -> int:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    source = Numbered(plan.seed, plan.length)
    with contextlib.suppress(SystemExit), mpqueue.Server(plan.name, source, **plan.options) as server:
        write("A 0")
        server.wait()
    return 0


def consume(plan: Plan, rank: int | None, join: Any, seed: int, write: Callable[[str], None]) -> int:
    """Take all remaining epochs, and check every byte; then continue until SIGTERM.

    If a consumer left at the end of the epochs while the server is killed, its last requests would be lost with the
    server. The next server would not know that its last batches were taken, and would wait for that rank.
    """
    chance, kept = random.Random(seed), []
    pauses, keeps = chance.choice([0.0, plan.pace_s]), chance.choice([0.0, 0.3])
    signals: list[int] = []  # no exception, because an exception in a finalizer is ignored
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    writable = chance.choice([False, "copy"])
    consumer = mpqueue.attach(
        plan.name, rank=rank, timeout=_ATTACH_S, join=join, reconnect=plan.has_journal, writable=writable
    )
    write(f"A {consumer.epoch}")
    status, is_done = 0, False
    try:
        while not signals:
            if consumer.epoch >= plan.num_epochs and not is_done:
                write("D")
                is_done = True
            for batch in consumer:
                index = int(batch["index"][0])
                _require(plan.seed, index, batch)
                write(f"G {consumer.epoch} {index} {array_bytes(batch)}")
                if chance.random() < keeps:
                    kept.append((index, batch))
                if len(kept) > _KEPT:
                    _require(plan.seed, *kept.pop(chance.randrange(len(kept))))
                if pauses:
                    signal.sigtimedwait([], chance.uniform(0, pauses))
                if signals or chance.random() < 0.01:
                    break  # continue in the next loop
    except ConsumerDied as error:
        write(f"C {error}")
        status = CUT_OFF
    consumer.close()
    for index, batch in kept:
        _require(plan.seed, index, batch)
    return status


def _require(seed: int, index: int, batch: Any) -> None:
    wanted = content.batch(seed, 0, index)
    if int(batch["index"][0]) != index or not same(batch["content"], wanted):
        raise AssertionError(f"batch {index} is {batch!r:.300}")
