"""Windows alone: their sizes, and the effects of a recall."""

import importlib.util
from collections import deque
from functools import partial

import pytest
from helpers.state_machines import AimingMachine, run_and_require

from mpqueue.tf1.queues import windows as module
from mpqueue.tf1.queues.lease import Taker
from mpqueue.tf1.queues.machine import CloseRequest, DequeueRequest, EnqueueRequest, FirstInFirstOut, QueueMachine
from mpqueue.tf1.queues.windows import Recalls, Windows


@pytest.fixture(autouse=True)
def _windows_are_given_on_any_processor(monkeypatch):
    monkeypatch.setattr(module, "MAX_WINDOW", 1024)


class Owner:
    """A queue and its windows."""

    def __init__(self, capacity):
        self.words = memoryview(bytearray(8 * 8)).cast("q")
        self.words[0] = 99  # the previous value
        self.machine = QueueMachine("q", capacity, FirstInFirstOut(), 0)
        self.pokes = []
        self.recalls = Recalls(lambda: self.pokes.append("poke"))
        self.windows = Windows(self.words, self.machine, self.recalls)

    def producer(self, place):
        return self.windows.add(f"connection {place}", place)

    def enqueue(self, producer, count=1):
        """Enqueue as a normal call."""
        self.machine.submit(EnqueueRequest([0] * count))
        producer.received += count


@pytest.mark.parametrize(
    ("machine", "largest"), [("x86_64", 1024), ("AMD64", 1024), ("i686", 1024), ("aarch64", 0), ("riscv64", 0)]
)
def test_windows_are_only_used_on_strongly_ordered_processors(machine, largest, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    spec = importlib.util.spec_from_file_location("windows_of_another_machine", module.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other.MAX_WINDOW == largest


def test_no_lease_starts_while_steps_are_deferred():
    """A deferred step may be a dequeue, which no longer checks for a lease."""
    owner, seen = Owner(10), []
    owner.recalls.defer(lambda: seen.append(owner.windows.may_lend))
    taker = Taker(1)
    owner.machine.submit(EnqueueRequest([1, 2, 3]))
    assert owner.windows.may_lend
    assert [owner.windows.lease.offer(taker, 1) for _ in range(2)] == [[], [1, 2, 3]]
    assert not owner.windows.make_way(DequeueRequest(1))
    assert not owner.windows.may_lend
    owner.recalls.settle()
    assert seen == [False]
    assert owner.windows.may_lend
    assert (owner.machine.lent, owner.machine.size) == (deque(), 3)


def open_window(capacity=10):
    owner = Owner(capacity)
    producer = owner.producer(0)
    owner.enqueue(producer)
    owner.windows.extend()
    return owner, producer


def test_deferred_step_and_its_own_deferred_steps_run_after_recall():
    owner, _ = open_window()
    taken = []

    def first():
        taken.append(("first", owner.windows.is_recalling))
        owner.recalls.defer(lambda: taken.append("second"))

    owner.windows.make_way(CloseRequest())
    owner.recalls.defer(first)
    assert taken == owner.pokes == []
    owner.recalls.settle()
    assert taken == [("first", False), "second"]
    owner.recalls.defer_and_poke(lambda: taken.append("third"))
    assert owner.pokes == ["poke"]
    owner.recalls.settle()
    assert taken[-1] == "third"


ARROWS = ["within", "beyond", "refused", "recall", "settle", "dequeue", "window opens", "cut", "remove"]


class AnyProducers(AimingMachine):
    """However producers use their windows, the queue never exceeds its capacity."""

    def make(self):
        self.capacity = self.choose([1, 2, 5, 20])
        self.owner, self.count = Owner(self.capacity), 0
        self.windows, self.machine = self.owner.windows, self.owner.machine

    def moves(self):
        moves = {"dequeue": (4, self.dequeue), "close of the room": (2, self.wait_for_room)}
        if self.count < 6:
            moves["a producer comes"] = 2, self.comes
        if self.windows.is_recalling:
            moves["settle"] = 6, self.settle
        for connection, producer in self.windows.producers.items():
            moves[f"{connection} enqueues"] = 4, partial(self.enqueue, producer)
            moves[f"{connection} is cut"] = 1, partial(self.is_cut, producer)
            moves[f"{connection} goes"] = 1, partial(self.goes, connection)
        return moves

    def comes(self):
        self.owner.producer(self.count)
        self.count += 1

    def enqueue(self, producer):
        """Enqueue within the window without an answer, otherwise as a call that recalls windows."""
        if producer.received < max(producer.limit, producer.promise):
            assert not self.machine.submit(EnqueueRequest([0]))[0].error
            producer.received += 1
            self.reached["within"] += 1
        elif self.machine.room and self.windows.make_way(EnqueueRequest([0])):
            self.owner.enqueue(producer)
            self.reached["beyond"] += 1
        else:
            self.reached["recall" if self.windows.is_recalling else "refused"] += 1
        self.extend()

    def extend(self):
        if self.windows.is_recalling:
            return
        before = self.windows.reserved
        self.windows.extend()
        self.reached["window opens"] += self.windows.reserved > before

    def wait_for_room(self):
        self.windows.make_way(EnqueueRequest([0] * (self.capacity + 1)))

    def settle(self):
        self.owner.recalls.settle()
        self.reached["settle"] += 1

    def dequeue(self):
        if self.machine.size:
            self.machine.submit(DequeueRequest(1))
            self.reached["dequeue"] += 1
            self.extend()

    def is_cut(self, producer):
        self.windows.close(producer)
        self.reached["cut"] += 1

    def goes(self, connection):
        self.windows.remove(connection)
        self.reached["remove"] += 1

    def check(self):
        assert self.machine.size <= self.capacity
        promised = sum(max(0, max(one.limit, one.promise) - one.received) for one in self.windows.producers.values())
        assert self.machine.size + promised <= self.capacity
        for one in self.windows.producers.values():
            word = self.owner.words[one.place]
            assert word <= one.received if one.is_cut else word == one.limit


def test_windows_never_exceed_capacity():
    run_and_require(AnyProducers, ARROWS, at_least=20, examples=150, steps=60)
