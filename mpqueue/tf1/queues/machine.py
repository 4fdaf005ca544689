"""The semantics of TensorFlow 1 queues as a pure state machine, without threads, clocks or bytes.

Two lines of waiting requests, each served in FIFO order, with the elements between them::

    enqueue       ──► [ line of enqueues ] ──► elements ──► [ line of dequeues ] ◄── dequeue
    enqueue_many        the front goes in      up to the      the front takes out    dequeue_many
    close               piece by piece         capacity       piece by piece         dequeue_up_to

* Only the request at the front of a line acts. A partially finished request blocks the requests after it.
* A close waits in the line of enqueues: enqueues before it still succeed, enqueues after it fail.
* A waiting dequeue removes elements from the queue as they arrive, which makes room. So it may request more than the
  capacity. If it fails, its elements return in order, even if the queue then exceeds its capacity.
* A closed queue still serves its elements. A dequeue of more fails with `OutOfRangeError`, unless it accepts fewer.
* ``min_after_dequeue`` elements remain in the queue until it is closed.

Each method is one step. It returns the requests that finished, in order, and the driver calls `notify` with them. The
driver serializes the steps with a lock and owns the elements; the machine never looks inside a token. A request has an
owner, so that all requests of a killed process can be withdrawn in one step.

A signal handler may raise at any call inside a step, see NOTE [ Interrupts ] in `core`. To ensure that no element is
lost or duplicated, tokens are moved only by operators (``+=``, ``del``), which also consume an iterator without running
handlers. `recover` completes an interrupted step and returns the requests that were not notified.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import repeat, starmap
from random import Random
from typing import Any, Protocol, TypeAlias, TypeVar

from mpqueue.errors import CancelledError, OpError, OutOfRangeError

Token: TypeAlias = Any
"""A reference to an element, opaque to the machine: an object, a place in memory, anything that a storage can read."""


class ElementOrder(Protocol):
    """The tokens of a queue and their order. Only the machine calls it.

    Attributes:
        is_known_ahead: True if enqueues do not change which tokens leave next.
    """

    is_known_ahead: bool

    def __len__(self) -> int:
        """Number of tokens."""

    def __iter__(self) -> Iterator[Token]:
        """Iterate over the tokens."""

    def add(self, tokens: Iterable[Token]) -> None:
        """Add enqueued tokens."""

    def move(self, count: int, taken: list[Token]) -> None:
        """Move ``count`` tokens to the end of ``taken``. There must be at least ``count``."""

    def put_back(self, taken: list[Token]) -> None:
        """Return tokens of `move` to their places and clear ``taken``."""


class FirstInFirstOut:
    """First in, first out."""

    is_known_ahead = True

    def __init__(self) -> None:
        self._tokens: deque[Token] = deque()

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append the tokens at the end."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """Move tokens from the front."""
        # One operation, so that no handler runs while a token is in neither list. It takes half the time of a loop.
        taken += starmap(self._tokens.popleft, repeat((), count))

    def put_back(self, taken: list[Token]) -> None:
        """Insert the tokens at the front, in their order."""
        # In one operation, from the last token to the first.
        [*map(self._tokens.appendleft, starmap(taken.pop, repeat((), len(taken))))]


class RandomOrder:
    """Random order: each token is equally likely to leave next, in constant time.

    Args:
        seed: Makes the order a function of the sequence of calls. None: a different order each time.
    """

    is_known_ahead = False

    def __init__(self, seed: int | None = None) -> None:
        self._tokens: list[Token] = []
        # `random()` has 53 bits. For a choice among n < 2**32 tokens, the bias n / 2**53 is negligible.
        self._random = Random(seed).random

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append the tokens; their positions do not matter."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """Move randomly chosen tokens, one after the other."""
        tokens, random = self._tokens, self._random
        for _ in range(count):
            place = int(random() * len(tokens))
            # Operators only, after which no handler runs: `append` and `pop` could be interrupted in between, and the
            # token would be in both lists or in neither.
            taken += (tokens[place],)
            # The last token fills the gap, so that a removal takes constant time.
            tokens[place] = tokens[-1]
            del tokens[-1]

    def put_back(self, taken: list[Token]) -> None:
        """Append the tokens."""
        self._tokens += taken
        del taken[:]


class Request:
    """A call that waits in a line.

    Attributes:
        finished: True once the call has its final outcome.
        error: The error if the call has failed, otherwise None.
        notify: Called once by the driver after the request has finished. None if no thread waits for it.
        owner: The caller. `QueueMachine.withdraw_owner` ends all calls of an owner.
        queue: The owner's number of the queue, if there is an owner.
    """

    queue: int
    # Class attributes as defaults, because most requests finish at once and need none of them.
    finished: bool = False
    error: OpError | None = None
    notify: Callable[[], None] | None = None
    owner: object = None


class EnqueueRequest(Request):
    """A request to enqueue elements in order, as room becomes available.

    Attributes:
        tokens: The elements. Only slices are taken, in order, so the sequence may create its items lazily.
        entered: Number of elements that have been enqueued so far.
    """

    entered: int = 0

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def __str__(self) -> str:
        return f"enqueue of {len(self.tokens)} elements ({self.entered} are enqueued and remain in the queue)"


class CloseRequest(Request):
    """A request to close the queue after all enqueues before it in the line."""

    def __str__(self) -> str:
        return "close after pending enqueues"


class DequeueRequest(Request):
    """A request to dequeue elements as they arrive.

    Attributes:
        num_wanted: Number of elements, at least 1.
        takes_fewer: Accept fewer elements (at least 1) if the queue is closed.
        taken: The elements dequeued so far; empty after a failure.
        is_read: True if the elements were copied and freed, and cannot return to the queue.
    """

    is_read: bool = False

    def __init__(self, num_wanted: int, takes_fewer: bool = False) -> None:
        self.num_wanted = num_wanted
        self.takes_fewer = takes_fewer
        self.taken: list[Token] = []

    def __str__(self) -> str:
        return f"dequeue of {self.num_wanted} elements"


_R = TypeVar("_R", bound=Request)


class Advance(Enum):
    """Progress of the request at the front of a line."""

    NONE = auto()
    SOME = auto()
    FINISHED = auto()


class QueueMachine:
    """The state machine of one queue.

    Args:
        name: Name for error messages.
        capacity: Maximum number of elements that enqueues may fill the queue to. Negative: unbounded.
        order: Empty container that determines the order of the elements.
        min_after_dequeue: Number of elements that a dequeue leaves in the queue until it is closed.

    Attributes:
        lent: The next elements, which are leased to one consumer. They still count as elements of the queue.
        reason: The error that closed the queue, for the errors of later dequeues; empty if unknown.

    Follows: ``QueueBase``, ``FIFOQueue`` and ``RandomShuffleQueue`` of TensorFlow's core, except that a *withdrawn*
        dequeue returns its elements to the queue. TensorFlow loses them.
    """

    def __init__(self, name: str, capacity: int, order: ElementOrder, min_after_dequeue: int) -> None:
        self.name = name
        self.capacity = capacity
        self.min_after_dequeue = min_after_dequeue
        self.closed, self.reason = False, ""
        self.lent: deque[Token] = deque()
        self._elements = order
        self._enqueues: deque[EnqueueRequest | CloseRequest] = deque()
        self._dequeues: deque[DequeueRequest] = deque()
        # Requests that finished in the last step. `notify` removes them one by one; `recover` returns the rest.
        self._finished: list[Request] = []

    @property
    def size(self) -> int:
        """Number of elements in the queue, not counting elements that waiting dequeues have taken out."""
        return len(self._elements) + len(self.lent)

    @property
    def num_waiting(self) -> int:
        """Number of waiting requests in both lines."""
        return len(self._enqueues) + len(self._dequeues)

    @property
    def has_waiting_enqueues(self) -> bool:
        """True if an enqueue or a close is waiting."""
        return bool(self._enqueues)

    @property
    def has_waiting_dequeues(self) -> bool:
        """True if a dequeue is waiting."""
        return bool(self._dequeues)

    @property
    def room(self) -> int | None:
        """Number of elements that still fit, or None if the queue is unbounded."""
        return None if self.capacity < 0 else self.capacity - len(self._elements) - len(self.lent)

    @property
    def may_reserve(self) -> bool:
        """True if room may be reserved for later enqueues: the queue is open, and no enqueue or close is waiting."""
        return not self._enqueues and not self.closed

    def dequeue_at_once(self, request: DequeueRequest) -> bool:
        """Finish a dequeue that `submit` would finish at once without serving other calls; otherwise return False.

        Most dequeues take this way, in half of the time.
        """
        # Leased elements are next. Dequeuing others would change the order, so the lease must be recalled first.
        if self._enqueues or self._dequeues or self.lent:
            return False
        if len(self._elements) - request.num_wanted < self.min_after_dequeue:
            return False
        # If a handler raises in `move`, `withdraw` returns the elements, although the request is in no line.
        self._elements.move(request.num_wanted, request.taken)
        request.finished = True
        return True

    @property
    def may_lend(self) -> bool:
        """True if the next elements may be leased: their order is known, and no dequeue is waiting."""
        return self._elements.is_known_ahead and not self._dequeues and not self.lent

    def lend(self, count: int) -> list[Token]:
        """Lease up to ``count`` elements and return them."""
        tokens: list[Token] = []
        self._elements.move(min(count, len(self._elements)), tokens)
        self.lent += tokens
        return tokens

    def end_lease(self) -> list[Request]:
        """End the lease: return untaken elements to their places."""
        self._elements.put_back([*self.lent])
        self.lent.clear()
        return self._serve()

    def held(self) -> list[Token]:
        """Return the elements in the queue and in the hands of waiting dequeues."""
        return [*self.lent, *self._elements, *(token for request in self._dequeues for token in request.taken)]

    def admit(self, tokens: list[Token]) -> list[Request]:
        """Enqueue elements in room that was reserved for them."""
        self._elements.add(tokens)
        return self._serve()

    def submit(self, request: EnqueueRequest | CloseRequest | DequeueRequest) -> list[Request]:
        """Append a request to its line, and serve both lines."""
        if isinstance(request, DequeueRequest):
            self._dequeues.append(request)
        else:
            self._enqueues.append(request)
        return self._serve()

    def close_and_cancel(self) -> list[Request]:
        """Close the queue now. Each waiting enqueue or close fails with `CancelledError`."""
        # Set `closed` first: if an interrupt leaves enqueues in the line, they fail when the line is served.
        self.closed = True
        finished = self._finished = []
        while self._enqueues:
            request = self._enqueues[0]
            request.error = CancelledError(
                None, None, f"Queue {self.name!r} was closed and pending enqueues were cancelled: {request}."
            )
            _finish_first(self._enqueues, finished)
        return self._serve(finished)

    def serve(self) -> list[Request]:
        """Serve both lines, after leased elements were taken."""
        return self._serve()

    def recover(self) -> list[Request]:
        """Complete a step that an interrupt has stopped; return the requests that finished and were not notified."""
        return self._serve(self._finished)

    def withdraw(self, request: Request, error: OpError | None) -> list[Request]:
        """End an unfinished request with ``error``. Elements it dequeued return; elements it enqueued remain."""
        # An interrupted request may have finished, or may not be in a line yet, see NOTE [ Interrupts ] in `core`.
        return [] if request.finished else self._withdraw([request], error)

    def withdraw_owner(self, owner: object, error: OpError | None) -> list[Request]:
        """End all requests of an owner in one step, so that none of them takes a returned element."""
        return self._withdraw([one for one in (*self._enqueues, *self._dequeues) if one.owner is owner], error)

    def withdraw_all(self, error: OpError) -> list[Request]:
        """End all waiting requests with ``error``."""
        return self._withdraw([*self._enqueues, *self._dequeues], error)

    def put_back(self, taken: list[Token]) -> list[Request]:
        """Return elements of a finished dequeue that did not reach its caller; ``taken`` is empty afterwards."""
        self._elements.put_back(taken)
        return self._serve()

    def _withdraw(self, requests: list[Request], error: OpError | None) -> list[Request]:
        finished = self._finished = []
        for request in requests:
            line: deque[Any] = self._enqueues
            if isinstance(request, DequeueRequest):
                line = self._dequeues
                self._elements.put_back(request.taken)
            request.error = error
            if request in line:  # an interrupted request may not be in its line yet
                # `del` is not a call, so no handler runs after it: `recover` finds the request in line, or finished.
                place = line.index(request)
                del line[place]
            request.finished = True
            finished += (request,)
        # Serve only after all are removed: otherwise a request of the killed owner could take a returned element.
        return self._serve(finished)

    def _serve(self, finished: list[Request] | None = None) -> list[Request]:
        """Advance the fronts of both lines until neither makes progress."""
        if finished is None:
            finished = self._finished = []
        # Alternate between the lines: an enqueue may satisfy a waiting dequeue, which makes room for more enqueues.
        moved = True
        while moved and (self._enqueues or self._dequeues):
            moved = bool(self._enqueues) and _serve_line(self._enqueues, self._advance_enqueue, finished)
            if self._dequeues and _serve_line(self._dequeues, self._advance_dequeue, finished):
                moved = True
        return finished

    def _advance_enqueue(self, request: EnqueueRequest | CloseRequest) -> Advance:
        if self.closed:
            request.error = CancelledError(None, None, f"Queue {self.name!r} is closed.")
            return Advance.FINISHED
        if isinstance(request, CloseRequest):
            self.closed = True
            return Advance.FINISHED
        return self._fill(request)

    def _fill(self, request: EnqueueRequest) -> Advance:
        start = request.entered
        end = total = len(request.tokens)
        if start == total:  # all elements are in, but an interrupt stopped the step before the request left the line
            return Advance.FINISHED
        if self.capacity >= 0:
            end = min(end, start + self.capacity - len(self._elements) - len(self.lent))
            # `end` may be less than `start`: elements that were returned may exceed the capacity.
            if end <= start:
                return Advance.NONE
        self._elements.add(request.tokens[start:end])
        request.entered = end  # no handler runs in between: `add` ends with the operation that adds
        return Advance.FINISHED if end == total else Advance.SOME

    def _advance_dequeue(self, request: DequeueRequest) -> Advance:
        missing = request.num_wanted - len(request.taken)
        if not missing:  # it has all elements, but an interrupt stopped the step before the request left the line
            return Advance.FINISHED
        available = len(self._elements)
        if self.closed and available < missing:
            return self._advance_dequeue_rest(request)
        if not self.closed:
            available -= self.min_after_dequeue
        if available <= 0:
            return Advance.NONE
        self._elements.move(min(available, missing), request.taken)
        return Advance.FINISHED if available >= missing else Advance.SOME

    def _advance_dequeue_rest(self, request: DequeueRequest) -> Advance:
        """Finish a dequeue from a closed queue with too few elements."""
        # Return all elements first: an error must leave the queue as it was, and its message reports the size.
        self._elements.put_back(request.taken)
        left = len(self._elements)
        if request.takes_fewer and left:
            self._elements.move(left, request.taken)
        else:
            text = f"Queue {self.name!r} is closed and has insufficient elements "
            text += f"(requested {request.num_wanted}, current size {left})."
            reason = f" It was closed because of an error: {self.reason}" if self.reason else ""
            request.error = OutOfRangeError(None, None, text + reason)
        return Advance.FINISHED


def _serve_line(line: deque[_R], advance: Callable[[_R], Advance], finished: list[Request]) -> bool:
    """Serve one line until its front must wait; return whether there was any progress."""
    moved = False
    while line:
        outcome = advance(line[0])
        if outcome is not Advance.FINISHED:
            return moved or outcome is Advance.SOME
        _finish_first(line, finished)
        moved = True
    return moved


def _finish_first(line: deque[_R], finished: list[Request]) -> None:
    # No calls from here on, so no handler runs: an interrupt finds the request in line, or finished.
    request = line[0]
    del line[0]
    request.finished = True
    finished += (request,)


def notify(finished: list[Request]) -> None:
    """Notify the callers of finished requests, and clear the list.

    If an interrupt stops the loop, one caller may be notified twice.
    """
    while finished:
        # Notify first, then delete: a second notification has no effect, but a missing one would block the caller
        # forever.
        if finished[0].notify is not None:
            finished[0].notify()
        del finished[0]
