"""`Consumer`: the batches of a server, one ``for`` loop per epoch.

`Consumer.next` tells the server what it has taken, looks whether it was detached meanwhile, and opens the next batch;
the server offers ahead. One lock orders the threads that may call. A signal handler may raise anywhere in it: a batch
that was handed out and has not reached its caller is returned by the following `next`; see NOTE [ Interrupts ] in
`mpqueue.engine.pipeline`.
"""

import enum
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NoReturn, Self

from mpqueue.engine.async_batches import AsyncBatches
from mpqueue.engine.outcomes import Unreadable
from mpqueue.errors import ServiceDied, ServiceError
from mpqueue.service.attaching import AttachTerms, open_attachment
from mpqueue.service.attachment import Attachment
from mpqueue.service.counts import Counts, open_timeline
from mpqueue.service.handshake import Join
from mpqueue.service.records import PARTIAL, Offer, Text, ToConsumer
from mpqueue.system import forked
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.living import Living
from mpqueue.system.locks import RLock
from mpqueue.telemetry import live
from mpqueue.telemetry.monitor import registry
from mpqueue.telemetry.stats import ConsumerStatistics

_NOTHING: Any = object()
_NOT_YET: Any = object()


class _Life(enum.Enum):
    ATTACHED, CLOSED, FOREIGN = range(3)


class Consumer:
    """An iterable over the batches of a server in another process. `mpqueue.attach` creates it.

    One ``for`` loop is one epoch. After a ``break``, the next loop continues the epoch. Batches are read-only views of
    the server's memory. It is not reused while any view of it exists, even after the server has crashed. While there
    are views of 8 other batches, a batch is a private copy. A batch is *taken* when the next one is requested. A batch
    that was not taken may be delivered to another consumer when this process ends.

    Args:
        terms: The arguments of `mpqueue.attach`.
        attachment: The connection.
        counts: The counters.

    Attributes:
        watchers: Tasks to wake when the consumer is closed, and when a later loop replaces theirs.

    Follows: `mpqueue.Loader`.
    """

    def __init__(self, terms: AttachTerms, attachment: Attachment, counts: Counts) -> None:
        self._terms, self._attachment = terms, attachment
        self._epoch = attachment.welcome.epoch
        self._lock = RLock()  # a signal handler may call close() inside next()
        self._life, self._pid = _Life.ATTACHED, os.getpid()
        self._loop: ConsumerIterator | None = None
        self._unclaimed = _NOTHING  # a batch that was handed out, and that an interrupt kept from its caller
        self._needs_attention = self._has_tasks = False
        self.watchers: Living[AsyncBatches] = Living()
        self._counts = counts
        self._finalizer = weakref.finalize(self, _abandon, attachment, counts)
        forked.watch(self)
        live.add(self, "Consumer")
        if terms.is_shown:
            registry.show(self)

    def __len__(self) -> int:
        """Return the number of batches per epoch for this consumer.

        Raises:
            TypeError: It is unknown: the source is a generator or endless, or consumers share the batches of an epoch.
        """
        length = self._attachment.welcome.length
        if length is None:
            raise TypeError(
                "the length of an epoch is unknown: the source has no length, or the server delivers each batch to the "
                "consumer that requests it first"
            )
        return length

    def __iter__(self) -> "ConsumerIterator":
        """Return an iterator over the batches of one epoch: the next epoch, or the rest of an unfinished one.

        Creating a new iterator invalidates the old one, and continues its epoch.

        Raises:
            ServiceDied: The server was stopped or has crashed.
            ConsumerDied: The server has detached this consumer, or has lost another one of its group.
            RuntimeError: The consumer was closed, or belongs to another process.
        """
        with self._lock:
            try:
                self._attend()
                if self._life is _Life.CLOSED:
                    raise RuntimeError(f"this consumer was closed: attach again with mpqueue.attach({self._name!r})")
                loop = ConsumerIterator(self, goes_on=bool(self._attachment.has_begun))
                self._begin()
                if self._loop is not None:
                    self._loop.is_replaced = True
                self._loop = loop
                # Tasks that wait in the loop before this one: it has ended, and nothing may come that tells them.
                self._wake()
            except BaseException:
                self._needs_attention = True
                self._close_late()
                raise
            else:
                return loop

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return an asynchronous iterator over the same batches, for asyncio and trio; see `Loader.__aiter__`.

        Attaching to another server (``reconnect=True``) blocks the event loop.
        """
        self._has_tasks = True
        return AsyncBatches(self.__iter__().step, self)

    def next(self, loop: "ConsumerIterator", *, waits: bool = True) -> Any:
        """Return the next batch to an iterator of this consumer.

        Args:
            loop: The iterator.
            waits: If False, return `_NOT_YET` instead of waiting.

        Raises:
            StopIteration: The epoch has ended.
            ServiceDied, ConsumerDied: The server has ended; this consumer was detached.
            RuntimeError: The consumer was closed, or a later iterator has invalidated this one.
            ServiceError: The server has sent invalid data, or a pickle that is not allowed.
            Exception: The exception of the source in place of the batch, or an exception of unpickling the batch.
        """
        batch = _NOTHING
        try:
            with self._lock:
                batch = self._take(loop, waits=waits)
                # Closed meanwhile by a signal handler, which has left the descriptors to us: they were in use.
                if self._needs_attention:
                    self._close_late()
            if batch is _NOTHING:
                loop.end()
            return batch  # noqa: TRY300 - a signal may still strike here
        except BaseException:
            if batch is not _NOTHING and batch is not _NOT_YET:
                # For the server it is taken, and would never come again: the next call gives it out.
                self._unclaimed = batch
                self._needs_attention = True
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable when the server has sent a message or has ended."""
        return self._attachment.link.fileno()

    def timeout_s(self) -> None:
        """There is no time at which something is due."""

    def _wake(self) -> None:
        for watcher in self.watchers:
            watcher.wake()

    def _take(self, loop: "ConsumerIterator", *, waits: bool) -> Any:
        record, batch, attachment = None, _NOTHING, self._attachment
        try:
            # One flag for all that is seldom: a batch pays for one look at it.
            if self._needs_attention:
                self._attend()
            while loop is self._loop:
                # An interrupt kept it from its caller. No ASK before it is there: that would say that it is taken.
                if self._unclaimed is not _NOTHING:
                    batch, self._unclaimed = self._unclaimed, _NOTHING
                    loop.goes_on = False
                    return batch
                attachment = self._attachment
                # Before it looks for a RECALL: an ASK that the server does not find then was sent with the RECALL in
                # our queue, and is followed by a look at it; see `records`.
                attachment.ask()
                try:
                    record = attachment.next_record(waits=waits)
                except ServiceDied as error:
                    self._replace(error)
                    continue
                if not isinstance(record, Offer) or record.kind != ToConsumer.OFFER:
                    if record is None:
                        return _NOT_YET
                    self._take_rare(record, loop)
                    continue
                # What came for other tasks is read with it, and no descriptor is readable any more that would tell.
                if self._has_tasks and len(attachment.link.arrived) > 1:
                    self._wake()
                try:
                    left, skipped = attachment.open(record), 0
                except Unreadable as unreadable:  # no interrupt: the next time would be like this one
                    raised = unreadable.settle(f"position {record.position} of epoch {record.epoch}")
                else:
                    if record.flags & PARTIAL:
                        left, skipped = _sort_out(left)
                    batch, counts = left, self._counts
                    # The assignment that hands it out: an interrupt before it has changed nothing, and behind it
                    # `Attachment.recover` does the rest. Without a call between, in which a signal handler could
                    # strike, each batch is counted once.
                    attachment.latest = record
                    counts.batches += 1
                    counts.bytes += record.nbytes
                    counts.skipped += skipped
                    attachment.enter(record)
                    counts.note(record, attachment)
                    if batch is _NOTHING:
                        continue
                    loop.goes_on = False
                    self._epoch = record.epoch
                    return batch
                attachment.latest = record
                attachment.enter(record)
                raise raised
        except BaseException:
            # Handed out, or taken from `_unclaimed`, before it was struck: the server may never offer it again.
            if batch is not _NOTHING and (record is None or attachment.latest is record):
                self._unclaimed = batch
            self._needs_attention = True
            raise
        return _NOTHING

    def _take_rare(self, record: Offer | Text, loop: "ConsumerIterator") -> None:
        """Raise the exception of a batch, or end the epoch."""
        attachment = self._attachment
        if isinstance(record, Text):
            error = attachment.error_of(record)
            attachment.latest = record
            attachment.enter(record)
            raise error
        attachment.latest = record
        self._end_epoch(record)
        if loop.goes_on:  # in an epoch of which nothing was left
            loop.goes_on = False
            self._begin()
            self._loop = loop

    def _end_epoch(self, end: Offer) -> None:
        """Note that all batches of an epoch were handed out; may be repeated."""
        self._loop, self._epoch = None, end.epoch + 1
        self._counts.end_epoch(end.epoch, self._attachment)
        self._attachment.has_begun.clear()
        self._wake()  # tasks that share the loop: nothing comes any more that could tell them
        # Last: as long as it is the next record, `_attend` does all this once more after an interrupt.
        self._attachment.link.arrived.popleft()

    def _attend(self) -> None:
        """Do what is to be done before a batch can be handed out."""
        if self._life is _Life.FOREIGN:
            raise RuntimeError(
                f"this process was forked from process {self._pid}, which has attached to {self._name!r}, and cannot "
                f"use its consumer. Attach here with mpqueue.attach({self._name!r})"
            )
        self._needs_attention = False  # before the look: a close from another thread may come right now
        self._close_late()
        attachment = self._attachment
        attachment.recover()
        latest, arrived = attachment.latest, attachment.link.arrived
        if isinstance(latest, Offer) and arrived and arrived[0] is latest:  # the end of an epoch
            self._end_epoch(latest)

    # -- The server dies, and another comes

    def _begin(self) -> None:
        """Have the server know that a loop over the epoch has begun."""
        if not self._attachment.has_begun:
            self._counts.begin_epoch(self._epoch)
        while True:
            attachment = self._attachment
            attachment.begin(self._epoch)
            death = attachment.link.death
            if death is None:
                return
            self._replace(death.error())

    def _replace(self, error: Exception) -> None:
        """Attach to the server that comes in the place of a dead one, or raise this error."""
        old = self._attachment
        death = old.link.death
        if self._life is _Life.CLOSED:
            self._loop = None
            return
        if death is not None:
            self._counts.lose(death)
        if not self._terms.reconnect or death is None or death.is_final:
            raise error
        with defer_signals():
            try:
                new = open_attachment(self._terms, old.resume(self._epoch), old.positions, self._is_attached)
            except ServiceError as refusal:
                if not self._is_attached():
                    self._loop = None
                    return
                raise ServiceDied(f"{error}; and no other server replaced it: {refusal}") from refusal
            self._counts.keep(old)
            self._attachment = new
            # Nothing of the old one is left to be closed: its death did that, and its memory goes with the last view.
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _abandon, new, self._counts)
        if new.welcome.epoch != self._epoch:  # the others have taken the rest of it
            self._loop, self._epoch = None, new.welcome.epoch
        elif self._loop is not None:
            self._begin()

    def _is_attached(self) -> bool:
        return self._life is _Life.ATTACHED

    # -- Anybody

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0; between two loops, of the next one."""
        return self._epoch

    def statistics(self) -> ConsumerStatistics:
        """Return counters since the consumer attached."""
        return self._counts.statistics(self._attachment)

    def report(self) -> dict[str, Any]:
        """Return what `mpqueue top` shows of this consumer."""
        told = {"kind": "Consumer", "name": self._name, "rank": self._terms.rank, "epoch": self._epoch}
        pid, statistics = self._attachment.welcome.pid, self.statistics()
        return told | {"server_pid": pid, "is_running": self._is_attached(), "statistics": statistics}

    def close(self) -> None:
        """Leave the server; idempotent, from any thread. Views stay valid; iterators end, also those that wait."""
        if self._life is not _Life.ATTACHED:
            return
        is_inside = self._lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition does
        with defer_signals():
            registry.hide(self)
            self._life, self._needs_attention = _Life.CLOSED, True
            self._wake()
            # Whoever waits in `next` has the lock for as long as the server has nothing: it is woken below.
            if not is_inside and self._lock.acquire(blocking=False):
                try:
                    self._attachment.leave()
                    self._close_late()
                finally:
                    self._lock.release()
                return
            self._attachment.link.leave()
            self._attachment.link.shut()  # whoever is at work with it sees its end
        if not is_inside:  # else a signal handler has called us; the descriptors are in use further up the stack
            with self._lock:
                self._close_late()

    def _close_late(self) -> None:
        """Close the descriptors of a consumer that was closed."""
        if self._life is _Life.CLOSED:
            self._needs_attention = True
            self._loop = None
            self._counts.end(self._attachment)
            self._attachment.close()
            self._finalizer.detach()

    def disown(self) -> None:
        """Refuse all calls, in a forked child: the connection is the parent's, and its lock may be held for ever."""
        self._lock = RLock()
        if self._life is _Life.ATTACHED:
            self._life, self._needs_attention = _Life.FOREIGN, True
            self._finalizer.detach()

    @property
    def _name(self) -> str:
        return self._terms.name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Consumer cannot be pickled or sent to another process: its connection belongs to this one. Attach in "
            f"that process, by mpqueue.attach({self._name!r})"
        )

    def __repr__(self) -> str:
        rank = "" if self._terms.rank is None else f", rank {self._terms.rank}"
        state = "attached" if self._attachment.link.death is None else "detached"
        if self._life is not _Life.ATTACHED:
            state = "closed" if self._life is _Life.CLOSED else "of another process"
        return f"<Consumer of {self._name!r}{rank}, epoch {self._epoch}, {state}>"


class ConsumerIterator(Iterator[Any]):
    """The batches of one loop over a `Consumer`.

    Any number of threads may call its ``__next__``, also at once: each batch goes to one of them, and the end to all.

    Args:
        consumer: Whose batches it gives.
        goes_on: It goes on in an epoch that an earlier one has begun.

    Attributes:
        goes_on: The same, until it has given a batch.
        is_replaced: A later one goes on in its place.
    """

    def __init__(self, consumer: Consumer, *, goes_on: bool) -> None:
        self._consumer, self.goes_on, self.is_replaced = consumer, goes_on, False
        self._next = consumer.next

    def __next__(self) -> Any:
        return self._next(self)  # nothing may come between: a batch that was handed out is to reach the caller

    def step(self) -> tuple[Any, Any] | None:
        """Return None and the next batch; or None: it is not there yet."""
        found = self._next(self, waits=False)
        return None if found is _NOT_YET else (None, found)

    def end(self) -> NoReturn:
        """Raise what its end is."""
        if self.is_replaced:
            raise RuntimeError(
                "this iterator was ended by another one of the same Consumer, which goes on in its place: a consumer "
                "gives each batch once. For two loops at once (nested, or in zip) attach twice"
            )
        raise StopIteration

    def __repr__(self) -> str:
        return f"<batches of {self._consumer!r}>"


def _abandon(attachment: Attachment, counts: Counts) -> None:
    """Nobody can reach the consumer any more."""
    attachment.abandon()
    counts.end(attachment)


def _sort_out(partial: tuple[Any, list[Any], bool]) -> tuple[Any, int]:
    """Return what is left of a batch (`_NOTHING` if that is nothing), and how many samples were left out."""
    left, skipped, is_empty = partial
    return _NOTHING if is_empty else left, sum(len(indices) for indices, _ in skipped)


def attach(
    name: str,
    *,
    rank: int | None = None,
    timeout: float | None = None,
    uid: int | None = None,
    join: Join = "next",
    reconnect: bool = False,
    writable: Literal[False, "copy"] = False,
    allow_pickle: bool | None = None,
    trace: str | os.PathLike[str] | None = None,
    monitor: bool = False,
) -> Consumer:
    """Attach to a server of this machine, and get batches from it.

    Example:
        A server, and a trainer, which would be another program::

            import mpqueue

            with mpqueue.Server("numbers", [10, 20, 30], mode="broadcast", workers=1):
                with mpqueue.attach("numbers", timeout=30) as consumer:
                    for epoch in range(2):
                        assert [int(batch) for batch in consumer] == [10, 20, 30]

    Args:
        name: Of the server, or the path of its folder (with a slash).
        rank: Which of the server's ``world`` ranks this is; None: the server has no ranks.
        timeout: Seconds to wait for a server that is not there yet, and for its answer; None: as long as it takes.
        uid: The user whose server is meant, by number. A server of any other user is refused, whoever has the name:
            None, of any other than this one, root included. By a name without a slash, and without ``MPQUEUE_HOME``, a
            server of another user is looked for in ``mpqueue-UID`` in the folder for temporary files.
        join: What a consumer gets that comes in the middle of an epoch of ``mode="broadcast"``: "next" (the next
            epoch), "now" (the rest of the running one), "replay" (all of the running one: what it has missed is
            computed again).
        reconnect: When the server dies, wait (``timeout`` seconds) for another one of its name and journal, and go on.
        writable: False: batches are read-only views of shared memory. "copy": private copies, at the time of a copy.
        allow_pickle: Unpickle what the server has pickled: objects in batches, exceptions. A pickle can run any code.
            None: if the server is of the same user.
        trace: Path of a file in which a timeline of this consumer is written, for Perfetto or Chrome: when it waits,
            and for how long it has each batch. None: ``MPQUEUE_TRACE`` says it for all of a process, or there is none.
        monitor: ``mpqueue top`` sees this end of it, too; ``MPQUEUE_MONITOR=1`` means the same.

    Returns:
        A `Consumer`, attached: an iterable of batches with the structure, dtypes and shapes that the source gives, one
        ``for`` loop per epoch. Their arrays are read-only views of shared memory, valid until the last view is gone.

    Raises:
        ServiceError: There was no server in time, or it has refused; or what has the name is another user's. The text
            says why and what to do.
        ValueError: The name, or an option, has an impossible value.
        TypeError: An option has the wrong type.
        OSError: The trace cannot be written; or there are not enough descriptors, or not enough address space.
    """
    terms = AttachTerms(
        name=name, rank=rank, timeout=timeout, uid=uid, join=join, reconnect=reconnect, writable=writable,
        allow_pickle=allow_pickle, trace=trace, monitor=monitor,
    )  # fmt: skip
    with defer_signals():
        attachment = open_attachment(terms)
        try:
            counts = Counts(open_timeline(terms))
        except BaseException:
            attachment.abandon()
            raise
        return Consumer(terms, attachment, counts)
