"""The processes of a server and of its consumers, which are killed at any moment; each leaves a log of what it saw.

    A EPOCH                   a consumer has attached
    G EPOCH POSITION BYTES    it was given a batch of so many bytes, which are right
    D                         it has had all epochs that count, and goes on until SIGTERM
    C TEXT                    the server has cut it off
    ! TEXT                    something is wrong

A line is written by one call, so that whoever is killed leaves whole lines. The processes are forked from the soak,
which has imported all that they need: a start costs little.
"""

import contextlib
import faulthandler
import logging
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import mpqueue
from mpqueue.errors import ConsumerDied
from parts.soak import content

CUT_OFF = 3  # exit status of a consumer that the server has detached
_WRONG = 4
_ATTACH_S = 60.0
_KEPT = 12


@dataclass
class Plan:
    """One server and its consumers.

    Attributes:
        seed: Of the content.
        name: Of the server.
        folder: Has the logs, and the journal.
        length: Batches of an epoch.
        num_epochs: Epochs that count.
        options: Of the server.
        pace_s: Seconds that a consumer takes for a batch, at most.
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
    """Batches that say which they are.

    Args:
        seed: Of the content.
        length: How many.
    """

    def __init__(self, seed: int, length: int) -> None:
        self.seed, self.length = seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return {"index": np.array([index]), "content": content.batch(self.seed, 0, index)}


class Child:
    """A process that was forked to do one thing.

    Args:
        log: Path of what it writes.
        work: Does it, with a function that writes a line; returns the exit status.
    """

    def __init__(self, log: str, work: Callable[[Callable[[str], None]], int]) -> None:
        self.log = log
        self.status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _be(log, work)

    def poll(self) -> int | None:
        """Return its exit status, as `subprocess` has it; None: it lives."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def send(self, number: int) -> None:
        """Send it a signal, if it was not seen to end."""
        if self.status is None:
            os.kill(self.pid, number)

    @property
    def is_done(self) -> bool:
        """True if it has written that it has had all epochs."""
        return os.path.exists(self.log + ".done")

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        self.send(signal.SIGKILL)
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self) -> list[str]:
        """Return what it has written."""
        with contextlib.suppress(FileNotFoundError), open(self.log) as file:
            return file.read().splitlines()
        return []


def _be(log: str, work: Callable[[Callable[[str], None]], int]) -> None:
    status = _WRONG
    try:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.enable()
        logging.getLogger("mpqueue").setLevel(logging.ERROR)  # that who keeps batches gets copies is no news
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


def consume(plan: Plan, rank: int | None, join: Any, seed: int, write: Callable[[str], None], log: str) -> int:
    """Take all epochs that are left, and look at every byte; then go on until SIGTERM.

    Who left at the end of the epochs could not tell a server that is killed at that moment, and unread requests with
    it, that its last batches are taken; its successor would wait for that rank.
    """
    chance, kept = random.Random(seed), []
    pauses, keeps = chance.choice([0.0, plan.pace_s]), chance.choice([0.0, 0.3])
    asked: list[int] = []  # no exception: one that strikes in a finalizer is lost
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    consumer = mpqueue.attach(
        plan.name, rank=rank, timeout=_ATTACH_S, join=join, reconnect=plan.has_journal,
        writable=chance.choice([False, "copy"]),
    )  # fmt: skip
    write(f"A {consumer.epoch}")
    status, is_done = 0, False
    try:
        while not asked:
            if consumer.epoch >= plan.num_epochs and not is_done:
                write("D")
                os.close(os.open(log + ".done", os.O_CREAT, 0o600))
                is_done = True
            for batch in consumer:
                index = int(batch["index"][0])
                _require(plan.seed, index, batch)
                write(f"G {consumer.epoch} {index} {content.num_bytes(batch)}")
                if chance.random() < keeps:
                    kept.append((index, batch))
                if len(kept) > _KEPT:
                    _require(plan.seed, *kept.pop(chance.randrange(len(kept))))
                if pauses:
                    signal.sigtimedwait([], chance.uniform(0, pauses))
                if asked or chance.random() < 0.01:
                    break  # and go on in the next loop
    except ConsumerDied as error:
        write(f"C {error}")
        status = CUT_OFF
    consumer.close()
    for index, batch in kept:
        _require(plan.seed, index, batch)
    return status


def _require(seed: int, index: int, batch: Any) -> None:
    wanted = content.batch(seed, 0, index)
    if int(batch["index"][0]) != index or not content.same(batch["content"], wanted):
        raise AssertionError(f"batch {index} is {content.outline(batch)}")
