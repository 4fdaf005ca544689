"""The semantics of TensorFlow's queues as one pure state machine: no thread, no clock, no bytes.

Two lines of waiting requests, each served strictly from its front, and the elements between them::

    enqueue       ──► [ line of enqueues ] ──► elements ──► [ line of dequeues ] ◄── dequeue
    enqueue_many        front goes in          up to the      front takes out        dequeue_many
    close               piece by piece         capacity       piece by piece         dequeue_up_to

* A request acts only at the front of its line. One that goes in (or takes out) by pieces holds all behind it back.
* A close stands in the line of enqueues: those that came before it still go in, those behind it fail.
* A dequeue holds what it has taken *out of* the queue, which makes room: so it may want more than the capacity. When
  it fails, all of it goes back in order, even if the queue then holds more than its capacity.
* A closed queue serves what it holds. A dequeue that wants more fails with `OutOfRangeError`; one that takes fewer is
  content with any rest.
* ``min_after_dequeue`` elements stay as long as the queue is open.

Every method is one step: it returns the requests that finished in it, in order, and whoever drives the machine calls
`notify` with them. The driver serialises the steps (a lock) and owns the elements; the machine passes tokens on and
never looks at them. Requests have owners, so that all that a dead process had asked for can be withdrawn in one step.

What a signal handler raises may end a step at any call in it, see NOTE [ Interrupts ] in `core`. Then no element is
lost or in two places: tokens are moved by steps of the language alone (``+=``, ``del``), which also drain an iterator
without a look at signals. `recover` goes on, and gives the requests that nobody was told of.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import repeat, starmap
from random import Random
from typing import Any, Protocol, TypeAlias, TypeVar

from mpqueue.errors import CancelledError, OpError, OutOfRangeError

Token: TypeAlias = Any
"""An element as the machine sees it: a reference, a place in memory, anything that a storage can follow."""


class ElementOrder(Protocol):
    """Holds the tokens of a queue for the machine, which alone calls it.

    Attributes:
        is_known_ahead: What is enqueued does not change which tokens leave next.
    """

    is_known_ahead: bool

    def __len__(self) -> int:
        """Number of tokens held."""

    def __iter__(self) -> Iterator[Token]:
        """The tokens held."""

    def add(self, tokens: Iterable[Token]) -> None:
        """Take in tokens that were enqueued."""

    def move(self, count: int, taken: list[Token]) -> None:
        """Move ``count`` tokens to the end of ``taken``; there are as many."""

    def put_back(self, taken: list[Token]) -> None:
        """Move back what `move` gave, as if it had not been taken."""


class FirstInFirstOut:
    """The token that came first leaves first."""

    is_known_ahead = True

    def __init__(self) -> None:
        self._tokens: deque[Token] = deque()

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append them at the end."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """Take them from the front."""
        # Half the time of a loop, and one step: no handler runs between the two lists.
        taken += starmap(self._tokens.popleft, repeat((), count))

    def put_back(self, taken: list[Token]) -> None:
        """Put them before the front, in their order."""
        [*map(self._tokens.appendleft, starmap(taken.pop, repeat((), len(taken))))]  # the last one first, in one step


class RandomOrder:
    """Every token is as likely as any other to leave next: it changes places with the last one, which is popped.

    Args:
        seed: Makes the order a function of the calls; None: a new order every time.
    """

    is_known_ahead = False

    def __init__(self, seed: int | None = None) -> None:
        self._tokens: list[Token] = []
        # 53 random bits for a choice among n: the chances differ by n / 2**53, nothing against n below 2**32.
        self._random = Random(seed).random

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def add(self, tokens: Iterable[Token]) -> None:
        """Append them: places mean nothing."""
        self._tokens += tokens

    def move(self, count: int, taken: list[Token]) -> None:
        """One random choice after the other."""
        tokens, random = self._tokens, self._random
        for _ in range(count):
            place = int(random() * len(tokens))
            # Steps of the language alone, behind which no handler runs: `append` and `pop` could be struck in between,
            # and the token would be in both lists, or in none.
            taken += (tokens[place],)
            tokens[place] = tokens[-1]
            del tokens[-1]

    def put_back(self, taken: list[Token]) -> None:
        """Append them."""
        self._tokens += taken
        del taken[:]


class Request:
    """A call in line.

    Attributes:
        finished: True once the call has its outcome, which then never changes.
        error: The outcome if it failed, else None.
        notify: Called once by whoever drives the machine when the request has finished; None while nobody waits.
        owner: The caller; `QueueMachine.withdraw_owner` ends all calls of one.
        queue: The owner's number of the queue, where there is an owner.
    """

    queue: int
    # Defaults of the class, because most requests finish at once and need none of them.
    finished: bool = False
    error: OpError | None = None
    notify: Callable[[], None] | None = None
    owner: object = None


class EnqueueRequest(Request):
    """Puts elements in, as far as there is room, in order.

    Attributes:
        tokens: The elements; only taken by slices, in order, so that they may be made when they are asked for.
        entered: Number of them that are in the queue, or were.
    """

    entered: int = 0

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def __str__(self) -> str:
        return f"enqueue of {len(self.tokens)} elements, of which {self.entered} went in and stay in"


class CloseRequest(Request):
    """Closes the queue once it is first in the line of enqueues."""

    def __str__(self) -> str:
        return "close behind pending enqueues"


class DequeueRequest(Request):
    """Takes elements out as they come, until it has all it wants.

    Attributes:
        num_wanted: Number of elements, at least 1.
        takes_fewer: With a closed queue, be content with what is left, if anything is.
        taken: The elements, empty again if the request failed.
        is_read: They are in their caller's hands, and cannot go back.
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
    """Result of a try to advance the request at the front of a line."""

    NONE = auto()
    SOME = auto()
    FINISHED = auto()


class QueueMachine:
    """One queue.

    Args:
        name: For error messages.
        capacity: Most elements that enqueues may fill it to; negative: no bound.
        order: Holds the elements and says which is next; empty.
        min_after_dequeue: Elements that a dequeue leaves behind while the queue is open.

    Attributes:
        lent: Elements in it that one caller takes by itself, the next ones; nobody waits for elements meanwhile.

    Follows: ``QueueBase``, ``FIFOQueue`` and ``RandomShuffleQueue`` of TensorFlow's core, except that a *withdrawn*
        dequeue gives back what it had taken, which is lost there.
    """

    def __init__(self, name: str, capacity: int, order: ElementOrder, min_after_dequeue: int) -> None:
        self.name = name
        self.capacity = capacity
        self.min_after_dequeue = min_after_dequeue
        self.closed = False
        self.lent: deque[Token] = deque()
        self._elements = order
        self._enqueues: deque[EnqueueRequest | CloseRequest] = deque()
        self._dequeues: deque[DequeueRequest] = deque()
        self._finished: list[Request] = []  # by the last step; shrinks as they are notified

    @property
    def size(self) -> int:
        """Number of elements in the queue; those that a waiting dequeue has taken out are not."""
        return len(self._elements) + len(self.lent)

    @property
    def num_waiting(self) -> int:
        """Number of requests in both lines."""
        return len(self._enqueues) + len(self._dequeues)

    @property
    def has_waiting_enqueues(self) -> bool:
        """True if an enqueue or a close is in line."""
        return bool(self._enqueues)

    @property
    def has_waiting_dequeues(self) -> bool:
        """True if a dequeue is in line."""
        return bool(self._dequeues)

    @property
    def room(self) -> int | None:
        """Number of elements that still fit, None if there is no bound."""
        return None if self.capacity < 0 else self.capacity - len(self._elements) - len(self.lent)

    @property
    def may_reserve(self) -> bool:
        """True if room may be set aside for later enqueues: no enqueue or close is in line, and the queue is open."""
        return not self._enqueues and not self.closed

    def can_give(self, count: int) -> bool:
        """True if a dequeue of ``count`` elements would finish at once, and leave the queue's minimum."""
        # What is lent comes next: to take others would be out of order, so the lease is to be recalled first.
        return len(self._elements) - self.min_after_dequeue >= count and not self._dequeues and not self.lent

    @property
    def may_lend(self) -> bool:
        """True if the next elements may be lent: they are known, and nobody waits for one."""
        return self._elements.is_known_ahead and not self._dequeues and not self.lent

    def lend(self, count: int) -> list[Token]:
        """Lend so many elements, or those that there are."""
        tokens: list[Token] = []
        self._elements.move(min(count, len(self._elements)), tokens)
        self.lent += tokens
        return tokens

    def end_loan(self) -> list[Request]:
        """Have those back in their places that were lent and not taken."""
        self._elements.put_back([*self.lent])
        self.lent.clear()
        return self._serve()

    def held(self) -> list[Token]:
        """The elements in it, and those that waiting dequeues have taken."""
        return [*self.lent, *self._elements, *(token for request in self._dequeues for token in request.taken)]

    def admit(self, tokens: list[Token]) -> list[Request]:
        """Put in elements for which room was set aside: whoever did so has kept others from it."""
        self._elements.add(tokens)
        return self._serve()

    def submit(self, request: EnqueueRequest | CloseRequest | DequeueRequest) -> list[Request]:
        """Let a new request stand in its line, and serve both lines as far as it goes."""
        if isinstance(request, DequeueRequest):
            self._dequeues.append(request)
        else:
            self._enqueues.append(request)
        return self._serve()

    def close_and_cancel(self) -> list[Request]:
        """Close now; every waiting enqueue, and every waiting close, fails with `CancelledError`."""
        # Closed first: enqueues that an interrupt leaves in line find that it is, and fail when the line is served.
        self.closed = True
        finished = self._finished = []
        while self._enqueues:
            request = self._enqueues[0]
            request.error = CancelledError(None, None, f"queue {self.name!r} was closed with cancel: {request}")
            _finish_first(self._enqueues, finished)
        return self._serve(finished)

    def go_on(self) -> list[Request]:
        """Serve both lines: elements that were lent have been taken."""
        return self._serve()

    def recover(self) -> list[Request]:
        """Go on after a step that an interrupt has ended; the requests that finished and were not notified."""
        return self._serve(self._finished)

    def withdraw(self, request: Request, error: OpError | None) -> list[Request]:
        """End a request with ``error``, if it has not finished: what it had taken goes back, what is in stays in."""
        return [] if request.finished else self._withdraw([request], error)  # it may not be in line, see `core`

    def withdraw_owner(self, owner: object, error: OpError | None) -> list[Request]:
        """End all requests of an owner that is gone, in one step: none of them profits from the end of another."""
        return self._withdraw([one for one in (*self._enqueues, *self._dequeues) if one.owner is owner], error)

    def put_back(self, taken: list[Token]) -> list[Request]:
        """Take back the elements of a finished dequeue that never reached its caller; the list is empty then."""
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
            if request in line:  # not if an interrupt came before it stood there
                # By `del`, and not by a call, behind which a handler may run: `recover` finds it in line, or finished.
                place = line.index(request)
                del line[place]
            request.finished = True
            finished += (request,)
        # Only now, with all of them gone: else one of an owner that is dead would take what another one gives back.
        return self._serve(finished)

    def _serve(self, finished: list[Request] | None = None) -> list[Request]:
        """Advance the fronts of both lines until neither moves."""
        if finished is None:
            finished = self._finished = []
        # By turns until neither moves: what goes in may be what a dequeue waits for, and what that takes makes room.
        moved = True
        while moved and (self._enqueues or self._dequeues):
            moved = bool(self._enqueues) and _serve_line(self._enqueues, self._let_in, finished)
            if self._dequeues and _serve_line(self._dequeues, self._hand_out, finished):
                moved = True
        return finished

    def _let_in(self, request: EnqueueRequest | CloseRequest) -> Advance:
        if self.closed:
            request.error = CancelledError(None, None, f"queue {self.name!r} is closed")
            return Advance.FINISHED
        if isinstance(request, CloseRequest):
            self.closed = True
            return Advance.FINISHED
        return self._fill(request)

    def _fill(self, request: EnqueueRequest) -> Advance:
        start = request.entered
        end = total = len(request.tokens)
        if start == total:  # all are in, and an interrupt came before it left the line
            return Advance.FINISHED
        if self.capacity >= 0:
            end = min(end, start + self.capacity - len(self._elements) - len(self.lent))
            if end <= start:  # below it too: elements that were put back may exceed the capacity
                return Advance.NONE
        self._elements.add(request.tokens[start:end])
        request.entered = end  # no interrupt comes between: `add` ends with the step that adds
        return Advance.FINISHED if end == total else Advance.SOME

    def _hand_out(self, request: DequeueRequest) -> Advance:
        missing = request.num_wanted - len(request.taken)
        if not missing:  # it has all, and an interrupt came before it left the line
            return Advance.FINISHED
        available = len(self._elements)
        if self.closed and available < missing:
            return self._hand_out_rest(request)
        if not self.closed:
            available -= self.min_after_dequeue
        if available <= 0:
            return Advance.NONE
        self._elements.move(min(available, missing), request.taken)
        return Advance.FINISHED if available >= missing else Advance.SOME

    def _hand_out_rest(self, request: DequeueRequest) -> Advance:
        """The queue is closed and holds too little."""
        # All goes back first: an error leaves the queue as it was, and tells how much it holds.
        self._elements.put_back(request.taken)
        left = len(self._elements)
        if request.takes_fewer and left:
            self._elements.move(left, request.taken)
        else:
            request.error = OutOfRangeError(
                None,
                None,
                f"queue {self.name!r} is closed and holds {left} elements, {request.num_wanted} were asked for",
            )
        return Advance.FINISHED


def _serve_line(line: deque[_R], advance: Callable[[_R], Advance], finished: list[Request]) -> bool:
    """Advance the front of one line as far as it goes; true if anything moved."""
    moved = False
    while line:
        outcome = advance(line[0])
        if outcome is not Advance.FINISHED:
            return moved or outcome is Advance.SOME
        _finish_first(line, finished)
        moved = True
    return moved


def _finish_first(line: deque[_R], finished: list[Request]) -> None:
    # Without a call from here on, so that no handler runs: an interrupt finds it in line, or finished.
    request = line[0]
    del line[0]
    request.finished = True
    finished += (request,)


def notify(finished: list[Request]) -> None:
    """Tell the callers of these requests, which have just finished; the list is empty then.

    One that an interrupt strikes meanwhile is told again.
    """
    while finished:
        # Told first, then struck off: told twice it wakes once, struck off untold it would sleep for ever.
        if finished[0].notify is not None:
            finished[0].notify()
        del finished[0]
