"""The state machine alone, without threads: against an oracle, and the promises of its page one by one."""

import ast
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from helpers.queue_oracle import Attempt, Oracle
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

import mpqueue.queues
from mpqueue.errors import CancelledError, OutOfRangeError
from mpqueue.queues.machine import QueueMachine
from mpqueue.queues.order import FirstInFirstOut, RandomOrder
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest

ERRORS = {"Cancelled": CancelledError, "OutOfRange": OutOfRangeError}


class MachineAgainstOracle(RuleBasedStateMachine):
    """Any calls in any order end in the machine as they end in the oracle."""

    pairs = Bundle("pairs")

    @initialize(capacity=st.integers(-1, 4), minimum=st.integers(0, 3), is_random=st.booleans())
    def make(self, capacity, minimum, is_random):
        self.is_random = is_random
        self.minimum = minimum if is_random else 0
        self.machine = QueueMachine("q", capacity, RandomOrder(1) if is_random else FirstInFirstOut(), self.minimum)
        self.oracle = Oracle(capacity, self.minimum)
        self.numbers = count()
        self.all = []

    def submit(self, request, attempt):
        self.all.append((request, attempt))
        self.check_finished(self.machine.submit(request))
        self.oracle.submit(attempt)
        return request, attempt

    def check_finished(self, finished):
        assert all(request.finished for request in finished)
        assert len(set(map(id, finished))) == len(finished)

    @rule(target=pairs, size=st.integers(1, 6))
    def enqueue(self, size):
        elements = [next(self.numbers) for _ in range(size)]
        return self.submit(EnqueueRequest(elements), Attempt("enqueue", elements))

    @rule(target=pairs, wanted=st.integers(1, 7), fewer=st.booleans())
    def dequeue(self, wanted, fewer):
        return self.submit(DequeueRequest(wanted, fewer), Attempt("dequeue", wanted=wanted, fewer=fewer))

    @rule(target=pairs)
    def close(self):
        return self.submit(CloseRequest(), Attempt("close"))

    @rule()
    def close_and_cancel(self):
        self.check_finished(self.machine.close_and_cancel())
        self.oracle.close_and_cancel()

    @rule(pair=consumes(pairs))
    def withdraw(self, pair):
        request, attempt = pair
        was_finished = request.finished
        finished = self.machine.withdraw(request, CancelledError(None, None, "withdrawn"))
        assert (request in finished) is not was_finished
        self.oracle.withdraw([attempt])

    @rule(owned=st.lists(st.sampled_from(["enqueue", "dequeue", "close"]), min_size=1, max_size=4))
    def a_process_asks_and_dies(self, owned):
        """All of its requests end together, and none that could go on profits from the end of another of them."""
        owner, mine = object(), []
        for kind in owned:
            elements = [next(self.numbers), next(self.numbers)] if kind == "enqueue" else []
            request = {"enqueue": EnqueueRequest(elements), "dequeue": DequeueRequest(3), "close": CloseRequest()}[kind]
            request.owner = owner
            mine.append(self.submit(request, Attempt(kind, elements, wanted=3)))
        pending = [request for request, _ in mine if not request.finished]
        finished = self.machine.withdraw_owner(owner, CancelledError(None, None, "its process died"))
        assert set(finished[: len(pending)]) == set(pending)
        assert all(isinstance(request.error, CancelledError) for request in pending)
        self.oracle.withdraw([attempt for _, attempt in mine])

    @invariant()
    def same_state(self):
        if not hasattr(self, "machine"):
            return
        assert self.machine.size == len(self.oracle.elements)
        assert self.machine.closed == self.oracle.closed
        assert self.machine.num_waiting == len(self.oracle.enqueues) + len(self.oracle.dequeues)
        for request, attempt in self.all:
            assert request.finished is (attempt.outcome is not None), (request, attempt)
            expected = CancelledError if attempt.outcome == "withdrawn" else ERRORS.get(attempt.outcome, type(None))
            assert isinstance(request.error, expected)
            if isinstance(request, DequeueRequest):
                assert len(request.taken) == len(attempt.taken)
                if not self.is_random:
                    assert request.taken == attempt.taken
            elif isinstance(request, EnqueueRequest):
                assert request.entered == len(request.tokens) - len(attempt.elements)

    @invariant()
    def nothing_is_lost_and_nothing_comes_twice(self):
        if not hasattr(self, "machine"):
            return
        came_in, came_out = [], []
        for request, _ in self.all:
            if isinstance(request, EnqueueRequest):
                came_in += request.tokens[: request.entered]
            elif isinstance(request, DequeueRequest):
                came_out += request.taken
        inside = self.machine._elements.take(self.machine.size)
        self.machine._elements.put_back(inside)
        assert Counter(came_in) == Counter(came_out + inside)


MachineAgainstOracle.TestCase.settings = settings(
    derandomize=True, deadline=None, max_examples=200, stateful_step_count=40
)
TestMachineAgainstOracle = pytest.mark.slow(MachineAgainstOracle.TestCase)


def make(capacity=5, elements=(), minimum=0):
    machine = QueueMachine("q", capacity, FirstInFirstOut(), minimum)
    if elements:
        machine.submit(EnqueueRequest(list(elements)))
    return machine


def test_a_step_tells_who_finished_in_it_in_order():
    machine, first, second = make(), DequeueRequest(1), DequeueRequest(2)
    assert machine.submit(first) == machine.submit(second) == []
    enqueue = EnqueueRequest([1, 2, 3])
    assert machine.submit(enqueue) == [enqueue, first, second]
    assert (first.taken, second.taken) == ([1], [2, 3])


def test_a_waiting_dequeue_makes_room_by_what_it_has_taken():
    machine, dequeue = make(capacity=2), DequeueRequest(5)
    machine.submit(dequeue)
    assert machine.submit(EnqueueRequest([1, 2, 3, 4]))
    assert (machine.size, dequeue.taken) == (0, [1, 2, 3, 4])


def test_a_withdrawn_dequeue_puts_back_in_order_even_beyond_the_capacity():
    machine, dequeue = make(capacity=2), DequeueRequest(5)
    machine.submit(dequeue)
    machine.submit(EnqueueRequest([1, 2, 3, 4]))
    machine.withdraw(dequeue, CancelledError(None, None, "withdrawn"))
    blocked = EnqueueRequest([5])
    assert machine.submit(blocked) == []
    after = DequeueRequest(3)
    assert machine.submit(after) == [after, blocked]
    assert after.taken == [1, 2, 3]


def test_a_withdrawn_dequeue_feeds_the_one_behind_it():
    machine, dequeue, behind = make(), DequeueRequest(3), DequeueRequest(1)
    machine.submit(dequeue)
    machine.submit(behind)
    machine.submit(EnqueueRequest([1, 2]))
    assert machine.withdraw(dequeue, None) == [dequeue, behind]
    assert behind.taken == [1]


def test_what_a_withdrawn_enqueue_had_put_in_stays_in():
    machine, enqueue, behind = make(capacity=2), EnqueueRequest([1, 2, 3]), EnqueueRequest([9])
    machine.submit(enqueue)
    machine.submit(behind)
    machine.withdraw(enqueue, None)
    assert (machine.size, enqueue.entered) == (2, 2)
    dequeue = DequeueRequest(3)
    machine.submit(dequeue)
    assert dequeue.taken == [1, 2, 9]


def test_elements_that_never_reached_their_caller_go_back_to_the_front():
    machine = make(elements=[1, 2, 3])
    dequeue = DequeueRequest(2)
    machine.submit(dequeue)
    assert machine.put_back(dequeue.taken) == []
    again = DequeueRequest(3)
    machine.submit(again)
    assert again.taken == [1, 2, 3]


def test_tokens_are_asked_for_in_slices_only_as_there_is_room():
    class Lazy:
        def __init__(self):
            self.asked = []

        def __len__(self):
            return 10

        def __getitem__(self, places):
            self.asked.append((places.start, places.stop))
            return list(range(places.start, places.stop))

    machine, tokens = make(capacity=4), Lazy()
    machine.submit(EnqueueRequest(tokens))
    machine.submit(DequeueRequest(3))
    assert tokens.asked == [(0, 4), (4, 7)]


def test_withdrawing_a_finished_request_changes_nothing():
    machine, enqueue = make(), EnqueueRequest([1])
    machine.submit(enqueue)
    assert machine.withdraw(enqueue, CancelledError(None, None, "late")) == []
    assert enqueue.error is None


@pytest.mark.parametrize("module", ["machine", "requests", "order"])
def test_the_machine_knows_nothing_of_threads_clocks_and_arrays(module):
    tree = ast.parse((Path(mpqueue.queues.__file__).parent / f"{module}.py").read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"collections", "collections.abc", "enum", "random", "typing", "mpqueue.errors"}
    assert imported <= allowed | {"mpqueue.queues.order", "mpqueue.queues.requests"}
