"""Servers and consumers that are killed, stopped and replaced at random, and a final check of the delivered batches.

Batches that a consumer received before its last one are *taken*. If a consumer was killed or disconnected, its last
batch may be delivered again, because only the server knows whether the consumer had requested the next one.
"""

import ctypes
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from operator import attrgetter

import psutil

from parts.processes import comes_true
from parts.soak.attached import CUT_OFF, Child, Consumer, Plan, serve
from parts.soak.rounds import Deviation, Tally

_QUIET_AFTER_S = (2.0, 8.0)  # time until the faults of a round end
_DEADLOCK_S = 90.0
_GONE_WITHIN_S = 2.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: workers of a killed server become this process's children


class ServiceRound:
    """A server with its consumers, from the start of the first to the end of the last.

    Args:
        seed: Determines everything except times.
        servers: Parent of the server directories.
    """

    def __init__(self, seed: int, servers: str) -> None:
        self.seed, self.servers = seed, servers
        self.chance = chance = random.Random(seed)
        self.tally = Tally({"rounds": 1})
        self.mode = chance.choice(["ranks", "first come", "broadcast"])
        self.size = chance.randint(1, 4)
        self.consumers: list[Consumer] = []
        self.past: list[Consumer] = []

    def run(self) -> Tally:
        """Run the round.

        Raises:
            Deviation: A result was wrong; names the seed.
        """
        with tempfile.TemporaryDirectory(prefix="soak") as folder:
            self.plan = self._plan(folder)
            try:
                self._run()
                self._check()
            except Deviation as error:
                raise Deviation(f"round {self.seed}, {self.mode}, {self.plan.options}: {error}") from error
            finally:
                for child in [self.server, *self.consumers]:
                    child.kill()
        return self.tally

    def _plan(self, folder: str) -> Plan:
        chance, mode = self.chance, self.mode
        has_journal = chance.randrange(2) == 0
        options = {
            "mode": "broadcast" if mode == "broadcast" else "split",
            "world": self.size if mode != "first come" else None,
            "workers": chance.randint(1, 2),
            "max_queue_size": chance.choice([1, 3, 10, 100]),
            "journal": os.path.join(folder, "journal") if has_journal else None,
            "ordered": has_journal or chance.randrange(3) != 0,
            "lease_timeout": chance.choice([None, None, 0.5]),
            "seed": 1,
        }
        if mode == "broadcast":
            options["slow"] = chance.choice(["wait", "wait", "detach", "skip"])
        length = self.size * chance.randint(1, 100)
        return Plan(self.seed, "soak", folder, length, chance.randint(1, 6), options, chance.choice([0.0, 0.004, 0.02]))

    # -- Processes

    def _run(self) -> None:
        self.num_servers, self.quiet_at = 0, time.monotonic() + self.chance.uniform(*_QUIET_AFTER_S)
        deadline = time.monotonic() + _DEADLOCK_S
        self._serve()
        for rank in range(self.size):
            self._attach(rank if self.mode == "ranks" else None, "next")
        while not all(child.is_done for child in self.consumers):
            time.sleep(self.chance.uniform(0.01, 0.15))  # poll, because no event is available
            self._check_processes()
            if time.monotonic() < self.quiet_at:
                self._disturb()
            elif time.monotonic() > deadline:
                self._raise_deadlock()
        self._end_the_consumers(deadline)
        self._end_the_server(deadline)
        self._require_gone()

    def _end_the_consumers(self, deadline: float) -> None:
        """Make the consumers leave. With ranks, the other consumers are disconnected when the first one has left."""
        for child in self.consumers:
            child.send(signal.SIGTERM)
        left_s = deadline - time.monotonic()
        if not comes_true(lambda: all(child.status is not None for child in self.consumers), left_s):
            self._raise_deadlock()
        for child in list(self.consumers):
            if child.status not in {0, CUT_OFF}:
                raise Deviation(f"a consumer exited with {child.status}: {child.lines()[-3:]}")
            self._retire(child)

    def _end_the_server(self, deadline: float) -> None:
        """Stop the server once it serves: a killed server's directory remains until its successor takes it over."""
        comes_true(self.server.lines, deadline - time.monotonic())
        self.server.send(signal.SIGTERM)

    def _serve(self) -> None:
        self.num_servers += 1
        self.server = Child(os.path.join(self.plan.folder, f"server{self.num_servers}"), partial(serve, self.plan))

    def _attach(self, rank: int | None, join: str) -> None:
        number = len(self.past) + len(self.consumers) + 1
        self.consumers.append(Consumer(self.plan, number, rank, join, self.chance.randrange(1 << 32)))

    def _check_processes(self) -> None:
        if self.server.status is not None:
            raise Deviation(f"the server exited unexpectedly: {self.server.lines()}")
        may_be_cut = self.plan.options["lease_timeout"] is not None or self.plan.options.get("slow") == "detach"
        for child in [one for one in self.consumers if one.status is not None]:
            if child.status != CUT_OFF or not may_be_cut:
                raise Deviation(f"a consumer exited with {child.status}: {child.lines()[-3:]}")
            self._replace(child, "consumers disconnected")

    def _retire(self, child: Consumer) -> None:
        self.consumers.remove(child)
        self.past.append(child)

    def _replace(self, child: Consumer, fault: str) -> None:
        self._retire(child)
        self.tally[fault] += 1
        self._attach(child.rank, self.chance.choice(["next", "now"]) if self.mode == "broadcast" else "next")

    def _disturb(self) -> None:
        chance = self.chance
        kind = chance.randrange(20)
        if kind in {0, 19} and self.plan.has_journal:
            self.tally["servers killed"] += 1
            self.server.kill()
            if chance.randrange(3) == 0:
                self._kill_a_consumer()
            self._serve()
        elif kind == 1:
            self._stop(self.server, "servers stopped and continued")
        elif kind < 5 and self.consumers:
            self._stop(chance.choice(self.consumers), "consumers stopped and continued")
        elif kind < 16:
            self._kill_a_consumer()

    def _stop(self, child: Child, what: str) -> None:
        self.tally[what] += 1
        child.send(signal.SIGSTOP)
        time.sleep(self.chance.choice([0.0, 0.01, 0.1, 0.7]))
        child.send(signal.SIGCONT)

    def _kill_a_consumer(self) -> None:
        if not self.consumers:
            return
        child = self.chance.choice(self.consumers)
        child.kill()
        self._replace(child, "consumers killed")

    def _raise_deadlock(self) -> None:
        details = {child.name: child.lines()[-2:] for child in self.consumers}
        self._dump_stacks(self.server, *self.consumers)
        raise Deviation(f"deadlock: {self.num_servers} servers, last lines of the consumers {details}")

    @staticmethod
    def _dump_stacks(*children: Child) -> None:
        """Make each process write its stacks to its log."""
        for child in children:
            child.send(signal.SIGABRT)
        time.sleep(1.0)

    def _require_gone(self) -> None:
        """Raise if a process or file is left two seconds after the end of the last process."""
        folder = os.path.join(self.servers, self.plan.name)

        def is_gone() -> bool:
            return self.server.status is not None and not _children(self.server.pid) and not os.path.exists(folder)

        if not comes_true(is_gone, _GONE_WITHIN_S):
            left = f"{_children(self.server.pid)}, {os.listdir(self.servers)}, the server {self.server.status}"
            self._dump_stacks(self.server)
            raise Deviation(f"these were leaked: {left}")
        if self.server.status:
            raise Deviation(f"the server exited with {self.server.status}: {self.server.lines()}")

    # -- Delivered batches

    def _check(self) -> None:
        certain: Counter[tuple[int, int]] = Counter()
        perhaps: Counter[tuple[int, int]] = Counter()
        for child in self.past:
            self.tally["batches"] += len(child.batches)
            self.tally["bytes"] += sum(nbytes for _, _, nbytes in child.batches)
            # The server may not have read its last request, if it was killed, too.
            is_certain = child.is_done and child.status == 0
            certain.update(child.places if is_certain else child.places[:-1])
            perhaps.update([] if is_certain else child.places[-1:])
        if self.mode == "broadcast":
            self._check_broadcast()
            return
        expected = {(epoch, n) for epoch in range(self.plan.num_epochs) for n in range(self.plan.length)}
        twice = {place: count for place, count in certain.items() if count > 1}
        lost = expected - certain.keys() - perhaps.keys()
        # Without ranks, a consumer that gets no batch of an epoch loops over the next epoch.
        strange = {place for place in certain.keys() | perhaps.keys() if place[1] >= self.plan.length}
        if twice or lost or strange:
            raise Deviation(f"repeated {_some(twice)}, lost {_some(lost)}, unexpected {_some(strange)}")
        if self.mode == "ranks" and self.plan.options["ordered"]:
            self._check_ranks()

    def _check_ranks(self) -> None:
        for rank in range(self.size):
            received: list[tuple[int, int]] = []
            for child in sorted((one for one in self.past if one.rank == rank), key=attrgetter("number")):
                if child.places[:1] == received[-1:]:
                    del received[-1:]  # the batch was not taken
                received += child.places
            mine = range(rank, self.plan.length, self.size)
            if received != [(epoch, n) for epoch in range(self.plan.num_epochs) for n in mine]:
                raise Deviation(f"rank {rank} received {received}")

    def _check_broadcast(self) -> None:
        options, length = self.plan.options, self.plan.length
        for child in self.past:
            epochs: dict[int, list[int]] = {}
            for epoch, position in child.places:
                epochs.setdefault(epoch, []).append(position)
            for number, (epoch, positions) in enumerate(epochs.items()):
                facts = f"{child.name} ({child.join}) got {positions} of epoch {epoch}"
                is_first, is_last = number == 0, number == len(epochs) - 1
                if len(set(positions)) != len(positions):
                    raise Deviation(f"{facts}: some are repeated")
                if options["slow"] == "skip" or not options["ordered"]:
                    continue
                start = positions[0] if is_first and child.join == "now" else 0
                end = len(positions) + start if is_last and not child.is_done else length
                if positions != list(range(start, end)):
                    raise Deviation(f"{facts}, expected {start} to {end - 1}")


def _some(places: object) -> str:
    found = sorted(places)  # type: ignore[call-overload]
    return f"{len(found)} {found[:5]}"


def _children(but: int) -> list[psutil.Process]:
    """Return the running processes below this one, and reap zombies."""
    left = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.pid == but:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
            elif process.ppid() == os.getpid():
                process.wait(0)
        except (psutil.Error, psutil.TimeoutExpired):
            continue
    return left


def rounds(seed: int) -> Iterator[ServiceRound]:
    """Yield rounds indefinitely."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak") as servers:
        os.environ["MPQUEUE_HOME"] = servers
        while True:
            yield ServiceRound(chance.randrange(1 << 32), servers)
