"""The state machine alone, without threads: against an oracle, and each guarantee of its documentation."""

from collections import Counter
from functools import partial
from itertools import count

from helpers.state_machines import AimingMachine, run_and_require
from tf1.helpers.queue_oracle import Attempt, Oracle

from mpqueue.errors import CancelledError, OutOfRangeError
from mpqueue.tf1.queues.machine import (
    CloseRequest,
    DequeueRequest,
    EnqueueRequest,
    FirstInFirstOut,
    QueueMachine,
    RandomOrder,
)

ERRORS = {"Cancelled": CancelledError, "OutOfRange": OutOfRangeError}


ARROWS = [
    "enqueue ends", "enqueue waits", "dequeue ends", "dequeue waits", "dequeue fails", "close ends", "close waits",
    "cancel", "cancel of waiting", "taken fewer", "withdraw of finished", "withdraw of enqueue", "withdraw of dequeue",
    "withdraw of close", "withdraw gives back", "owner crashes", "owner with several crashes", "put back", "put back beyond",
    "admit", "leaves the minimum", "dequeue at once",
]  # fmt: skip


class MachineAgainstOracle(AimingMachine):
    """Any sequence of calls has the same outcome in the machine and in the oracle."""

    def make(self):
        capacity, self.minimum = self.choose([-1, 0, 1, 2, 3, 4, 4]), self.choose([0, 0, 1, 2, 3])
        self.is_random = self.minimum > 0 or self.choose([False, True])
        self.machine = QueueMachine(
            "q", capacity, RandomOrder(1) if self.is_random else FirstInFirstOut(), self.minimum
        )
        self.oracle = Oracle(capacity, self.minimum)
        self.numbers, self.owners = count(), [object(), object()]
        self.all = []

    def moves(self):
        moves = {f"enqueue {size}": (4, partial(self.enqueue, size)) for size in (1, 2, 6)}
        for wanted in (1, 2, 5):
            for fewer in (False, True):
                moves[f"dequeue {wanted} {'or fewer' * fewer}"] = 2, partial(self.dequeue, wanted, fewer)
        moves["close"] = 2, partial(self.submit, CloseRequest(), Attempt("close"))
        if len(self.all) > 12:
            moves["close and cancel"] = 1, self.close_and_cancel
        for number, (request, _) in enumerate(self.all):
            if not request.finished:
                moves[f"withdraw {number}"] = 1, partial(self.withdraw, number)
            elif isinstance(request, DequeueRequest) and request.taken:
                moves[f"put back {number}"] = 1, partial(self.put_back, number)
        if any(request.finished for request, _ in self.all):
            moves["withdraw one that has finished"] = 1, self.withdraw_finished
        moves["an owner crashes"] = 2, self.an_owner_crashes
        moves["admit"] = 1, self.admit
        return moves

    def enqueue(self, size):
        elements = [next(self.numbers) for _ in range(size)]
        self.submit(EnqueueRequest(elements), Attempt("enqueue", elements))

    def dequeue(self, wanted, fewer):
        self.submit(DequeueRequest(wanted, fewer), Attempt("dequeue", requested=wanted, fewer=fewer))

    def submit(self, request, attempt):
        request.owner = self.choose([None, *self.owners])
        self.all.append((request, attempt))
        finished = self.submit_to_machine(request)
        self.oracle.submit(attempt)
        self.check_notified_once(finished)
        kind = type(request).__name__.removesuffix("Request").lower()
        self.reached[f"{kind} {'fails' if request.error else 'ends' if request.finished else 'waits'}"] += 1
        is_dequeue = kind == "dequeue"
        self.reached["taken fewer"] += is_dequeue and request.finished and 0 < len(request.taken) < request.num_wanted
        self.reached["leaves the minimum"] += (
            is_dequeue and not request.finished and self.machine.size == self.minimum > 0
        )

    def submit_to_machine(self, request):
        """Submit a request in one of the ways of the drivers; return the requests that finished."""
        if isinstance(request, DequeueRequest) and self.choose([False, True]):
            is_alone = not self.machine.num_waiting
            if self.machine.dequeue_at_once(request):
                assert is_alone
                assert self.machine.serve() == []
                self.reached["dequeue at once"] += 1
                return [request]
            assert not request.taken
        return self.machine.submit(request)

    def check_notified_once(self, finished):
        """Check that exactly the requests that finished in this step are notified."""
        notified = {id(request) for request, _ in self.all if request.finished} - self.finished_before
        assert sorted(map(id, finished)) == sorted(notified)

    def close_and_cancel(self):
        waiting = self.machine.num_waiting
        self.check_notified_once(self.machine.close_and_cancel())
        self.oracle.close_and_cancel()
        self.reached["cancel of waiting" if waiting else "cancel"] += 1

    def withdraw(self, number):
        request, attempt = self.all[number]
        error = CancelledError(None, None, "withdrawn")
        has_taken = isinstance(request, DequeueRequest) and bool(request.taken)
        finished = self.machine.withdraw(request, error)
        self.check_notified_once(finished)
        assert finished[0] is request
        assert request.error is error
        self.oracle.withdraw([attempt])
        self.reached["withdraw gives back"] += has_taken
        self.reached[f"withdraw of {attempt.kind}"] += 1

    def withdraw_finished(self):
        request = self.choose([request for request, _ in self.all if request.finished])
        error = request.error
        assert self.machine.withdraw(request, CancelledError(None, None, "late")) == []
        assert request.error is error
        self.reached["withdraw of finished"] += 1

    def an_owner_crashes(self):
        """Withdraw all requests of an owner together, so that they do not take each other's elements."""
        owner = self.choose(self.owners)
        mine = [(request, attempt) for request, attempt in self.all if request.owner is owner and not request.finished]
        finished = self.machine.withdraw_owner(owner, CancelledError(None, None, "its process died"))
        self.check_notified_once(finished)
        assert set(finished[: len(mine)]) == {request for request, _ in mine}
        assert all(isinstance(request.error, CancelledError) for request, _ in mine)
        self.oracle.withdraw([attempt for _, attempt in mine])
        self.reached["owner with several crashes" if len(mine) > 1 else "owner crashes"] += 1

    def put_back(self, number):
        """Return the elements of a finished dequeue that did not reach its caller."""
        request, attempt = self.all[number]
        tokens, request.taken = request.taken, []
        self.reached["put back beyond"] += 0 <= self.machine.capacity < self.machine.size + len(tokens)
        self.check_notified_once(self.machine.put_back(tokens))
        self.oracle.restore(attempt)
        self.oracle.run()
        self.reached["put back"] += 1

    def admit(self):
        """Enqueue elements in reserved room, whatever the capacity."""
        elements = [next(self.numbers)]
        self.check_notified_once(self.machine.admit(elements))
        self.all.append((EnqueueRequest(elements), Attempt("enqueue")))
        self.all[-1][0].entered, self.all[-1][0].finished, self.all[-1][1].outcome = 1, True, "ok"
        self.oracle.elements += elements
        self.oracle.run()
        self.reached["admit"] += 1

    def check(self):
        self.finished_before = {id(request) for request, _ in self.all if request.finished}
        assert self.machine.size == len(self.oracle.elements)
        assert self.machine.closed == self.oracle.closed
        assert self.machine.num_waiting == len(self.oracle.enqueues) + len(self.oracle.dequeues)
        held = Counter(self.oracle.elements)
        for attempt in self.oracle.dequeues:
            held.update(attempt.taken)
        assert self.is_random or Counter(self.machine.held()) == held
        for request, attempt in self.all:
            assert request.finished is (attempt.outcome is not None), (request, attempt)
            expected = CancelledError if attempt.outcome == "withdrawn" else ERRORS.get(attempt.outcome, type(None))
            assert isinstance(request.error, expected)
            if isinstance(request, DequeueRequest):
                assert len(request.taken) == len(attempt.taken)
                assert self.is_random or request.taken == attempt.taken
            elif isinstance(request, EnqueueRequest):
                assert request.entered == len(request.tokens) - len(attempt.elements)
        self.nothing_is_lost_and_nothing_comes_twice()

    def nothing_is_lost_and_nothing_comes_twice(self):
        came_in, came_out = [], []
        for request, _ in self.all:
            if isinstance(request, EnqueueRequest):
                came_in += request.tokens[: request.entered]
            elif isinstance(request, DequeueRequest) and request.finished:
                came_out += request.taken
        assert Counter(came_in) == Counter(came_out + self.machine.held())


def test_any_calls_have_the_same_outcome_as_in_the_oracle():
    run_and_require(MachineAgainstOracle, ARROWS, at_least=5, examples=250, steps=50)
