"""`Consumer`: the batches of a server, one ``for`` loop per epoch.

`Consumer.next` reports the taken batches, checks whether the server has detached the consumer, and opens the next
batch, which the server has offered ahead. One lock serializes threads. A signal handler may raise anywhere in `next`: a
batch that was delivered and has not reached the caller is returned by the following call. See NOTE [ Interrupts ] in
`mpqueue.engine.pipeline`.
"""

import enum
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Literal, NoReturn, Self

from mpqueue.engine.outcomes import Unreadable
from mpqueue.engine.skips import SkippedSamples
from mpqueue.errors import ServiceDied, ServiceError
from mpqueue.plan.options import checks
from mpqueue.plan.sources.batch_types import Batch_co
from mpqueue.service.consuming.attaching import AttachTerms, open_attachment
from mpqueue.service.consuming.attachment import Attachment
from mpqueue.service.consuming.counts import Counts, open_timeline
from mpqueue.service.protocol.handshake import Join
from mpqueue.service.protocol.records import PARTIAL, Offer, Text, ToConsumer
from mpqueue.service.protocol.refusals import Redirected
from mpqueue.service.protocol.server_directory import ServerDirectory
from mpqueue.system.log import warn
from mpqueue.system.processes import forked
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock, is_owned
from mpqueue.system.user_code.keywords import suggests_keywords
from mpqueue.telemetry import live
from mpqueue.telemetry.stats import ConsumerStatistics

_IDS = "put the ids of the samples into the batches, or use a Loader with the same seed"
_NOTHING: Any = object()
_WHOLE = SkippedSamples()


class _Life(enum.Enum):
    ATTACHED, CLOSED, FOREIGN = range(3)


class Consumer(Redirected, Generic[Batch_co]):
    """An iterable over the batches of a server in another process. `mpqueue.attach` creates it.

    One ``for`` loop is one epoch. After a ``break``, the next loop continues the epoch. Batches are read-only views of
    the server's memory. It is not reused while any view of it exists, even after the server has crashed. While there
    are views of 8 other batches, a batch is a private copy. A batch is *taken* when the next one is requested. A batch
    that was not taken may be delivered to another consumer when this process ends.

    Args:
        terms: The arguments of `mpqueue.attach`.
        attachment: The connection.
        counts: The counters.

    Follows: `mpqueue.Loader`.
    """

    _elsewhere = {  # noqa: RUF012 - never changed
        **dict.fromkeys(("last", "explain", "compute", "seek"), _IDS),
        **dict.fromkeys(("exclude", "set_weights"), "the server decides: pass exclude=ids to mpqueue.Server"),
    }

    def __init__(self, terms: AttachTerms, attachment: Attachment, counts: Counts) -> None:
        self._terms, self._attachment = terms, attachment
        self._epoch = attachment.welcome.epoch
        self._lock = RLock()  # a signal handler may call close() inside next()
        self._life, self._pid = _Life.ATTACHED, os.getpid()
        self._loop: ConsumerIterator | None = None
        self._unclaimed = _NOTHING  # delivered, and not returned to the caller yet
        self._needs_attention = False
        self._counts = counts
        # A consumer that is dropped without close() leaves, so that its untaken batches go to other consumers. The
        # finalizer refers to the attachment only: with a reference, the consumer would not be collected.
        self._finalizer = WhenCollected(self, _abandon, attachment, counts)
        forked.watch(self)
        live.add(self, "Consumer")

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

    def __iter__(self) -> "ConsumerIterator[Batch_co]":
        """Return an iterator over the batches of one epoch: the next epoch, or the rest of an unfinished one.

        Creating a new iterator invalidates the old one, and continues its epoch.

        Raises:
            ServiceDied: The server was stopped or has crashed.
            ConsumerDied: The server has detached this consumer, or has lost another consumer of its group.
            RuntimeError: The consumer was closed, or belongs to another process.
        """
        with self._lock:
            try:
                self._attend()
                if self._life is _Life.CLOSED:
                    raise RuntimeError(f"this consumer was closed: attach again with mpqueue.attach({self._name!r})")
                loop = ConsumerIterator(self, None if self._attachment.has_begun else self._epoch)
                self._begin()
                if self._loop is not None:
                    self._loop.is_replaced = True
                self._loop = loop
            except BaseException:
                self._needs_attention = True
                self._close_late()
                raise
            else:
                return loop

    def __aiter__(self) -> AsyncIterator[Batch_co]:
        """Return an asynchronous iterator over the same batches, for asyncio; see `Loader.__aiter__`."""
        from mpqueue.engine.async_batches import AsyncBatches  # imported here: it imports asyncio

        return AsyncBatches(iter(self))

    def next(self, loop: "ConsumerIterator") -> Any:
        """Return the next batch to an iterator of this consumer.

        Args:
            loop: The iterator.

        Raises:
            StopIteration: The epoch is complete.
            ServiceDied, ConsumerDied: The server has exited; this consumer was detached.
            RuntimeError: The consumer was closed, or a later iterator has invalidated this one.
            ServiceError: The server has sent invalid data, or a pickle that is not allowed.
            Exception: The exception of the source in place of the batch, or an exception of unpickling the batch.
        """
        batch = _NOTHING
        try:
            with self._lock:
                if self._take(loop):
                    batch, self._unclaimed = self._unclaimed, _NOTHING
                # A signal handler may have closed the consumer. It leaves the descriptors open, because this call was
                # using them.
                if self._needs_attention:
                    self._close_late()
            if batch is _NOTHING:
                loop.end()
            return batch  # noqa: TRY300 - a signal may still strike here
        except BaseException:
            if batch is not _NOTHING:
                # The server counts the batch as taken and never offers it again, so the next call must return it.
                self._unclaimed = batch
                self._needs_attention = True
            raise

    def _take(self, loop: "ConsumerIterator") -> bool:
        """Deliver the next batch of an iterator to `_unclaimed`; return False if the iterator is exhausted."""
        try:
            # One flag covers all rare cases, so that a batch costs a single check.
            if self._needs_attention:
                self._attend()
            while loop is self._loop:
                # An interrupt kept this batch from the caller. Do not send an `ASK` before the caller has received it:
                # the `ASK` would confirm it as taken, and a crash would lose it.
                if self._unclaimed is not _NOTHING:
                    loop.epoch = self._epoch
                    return True
                attachment = self._attachment
                # Send the `ASK` before looking for a `RECALL`: if the server does not find this `ASK` when it recalls,
                # its `RECALL` is already in our queue and is found next. See `records`.
                attachment.ask()
                try:
                    record = attachment.next_record()
                except ServiceDied as error:
                    self._replace(error)
                    continue
                if not isinstance(record, Offer) or record.kind != ToConsumer.OFFER:
                    self._take_rare(record, loop)
                    continue
                try:
                    value, skipped = attachment.open(record), _WHOLE
                except Unreadable as unreadable:  # deliver the error once; retrying would fail again
                    raised = unreadable.settle(f"position {record.position} of epoch {record.epoch}")
                else:
                    if record.flags & PARTIAL:
                        value, skipped = _sort_out(value)
                    counts = self._counts
                    # These assignments deliver the batch. An interrupt before them has no effect; after them,
                    # `Attachment.recover` completes the delivery. No call in between, where a signal handler could run:
                    # so each batch is counted once.
                    self._unclaimed, attachment.latest = value, record
                    if value is not _NOTHING:
                        self._epoch = record.epoch
                    counts.batches += 1
                    counts.bytes += record.nbytes
                    counts.skipped += skipped.num
                    attachment.enter(record)
                    counts.note(record, attachment)
                    if value is _NOTHING:
                        continue
                    loop.epoch = record.epoch
                    return True
                attachment.latest = record
                attachment.enter(record)
                loop.epoch = record.epoch
                raise raised
        except BaseException:
            self._needs_attention = True
            raise
        return False

    def _take_rare(self, record: Offer | Text, loop: "ConsumerIterator") -> None:
        """Raise the exception delivered in place of a batch, or end the epoch."""
        attachment = self._attachment
        if isinstance(record, Text):
            error = attachment.error_of(record)
            attachment.latest = record
            attachment.enter(record)
            loop.epoch = record.epoch
            raise error
        if record.epoch < self._epoch:  # it was sent again, because a `RECALL` might have dropped the first one
            attachment.link.arrived.popleft()
            return
        attachment.latest = record
        self._end_epoch(record)
        if self._loop is not None:
            self._begin()

    def _end_epoch(self, end: Offer) -> None:
        """Record that all batches of an epoch were delivered; may be repeated."""
        loop, self._epoch = self._loop, end.epoch + 1
        # This loop continued an epoch that had no batches left for it. An empty loop would surprise the caller, so it
        # becomes the loop over the next epoch.
        if loop is not None and loop.epoch is None:
            loop.epoch = end.epoch + 1
        if loop is not None and loop.epoch != end.epoch + 1:
            self._loop = None
        self._counts.end_epoch(end.epoch, self._attachment)
        self._attachment.has_begun.clear()
        # Remove the record last: while it is the next one, `_attend` repeats this method after an interrupt.
        self._attachment.link.arrived.popleft()

    def _attend(self) -> None:
        """Do the pending work that precedes a delivery."""
        if self._life is _Life.FOREIGN:
            raise RuntimeError(
                f"this consumer of {self._name!r} belongs to process {self._pid}, from which this process was forked: "
                f"attach in this process, too, with mpqueue.attach({self._name!r})"
            )
        # Clear the flag before the checks: another thread may call close() during them, which sets it again.
        self._needs_attention = False
        self._close_late()
        attachment = self._attachment
        attachment.recover()
        latest, arrived = attachment.latest, attachment.link.arrived
        if isinstance(latest, Offer) and arrived and arrived[0] is latest:  # the end of an epoch
            self._end_epoch(latest)
        # An interrupt may have struck after another server was attached. Without its `BEGIN`, that server would wait
        # for this consumer, and this consumer for a batch.
        if self._loop is not None and not self._attachment.has_begun:
            self._begin()

    # -- Reconnecting after a server crash

    def _begin(self) -> None:
        """Notify the server that a loop over the epoch has started."""
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
        """Attach to the server that replaces a crashed one, or raise this error."""
        old = self._attachment
        death = old.link.death
        if self._life is _Life.CLOSED:
            self._loop = None
            return
        if death is not None:
            self._counts.lose(death)
        if not self._terms.reconnect or death is None or death.is_final:
            raise error
        # Defer signals, so that no handler raises between opening the new attachment and storing it. The waits inside
        # allow signals.
        with defer_signals():
            try:
                new = open_attachment(self._terms, old.resume(self._epoch), old.positions, self._is_attached)
            except ServiceError as refusal:
                if not self._is_attached():
                    self._loop = None
                    return
                raise ServiceDied(f"{error}; reconnecting failed: {refusal}") from refusal
            self._counts.keep(old)
            self._attachment = new
            if new.welcome.epoch != self._epoch:  # the other consumers have taken the rest of the epoch
                if new.mode.allows_slow:  # they have batches that this one lacks
                    warn(
                        f"this consumer of {self._name!r} was away while the others continued epoch {self._epoch}: it "
                        f"misses their batches, and its next loop is epoch {new.welcome.epoch}. The server waits for "
                        "its consumers for grace_s",
                        "Share one data loader between processes",
                        "Restart a server",
                    )
                self._loop, self._epoch = None, new.welcome.epoch
            # The old attachment needs no finalizer: its descriptors were closed when the crash was noticed, and its
            # memory is unmapped with the last view.
            self._finalizer.detach()
            self._finalizer = WhenCollected(self, _abandon, new, self._counts)
        if not self._is_attached():  # a `close` of this moment has only left the old server
            new.leave()
            self._loop = None
            return
        if self._loop is not None:  # if a handler raises before this, `_attend` does it
            self._begin()

    def _is_attached(self) -> bool:
        return self._life is _Life.ATTACHED

    # -- State

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0; between two loops, the next epoch."""
        return self._epoch

    def statistics(self) -> ConsumerStatistics:
        """Return counters since the consumer attached."""
        return self._counts.statistics(self._attachment)

    def close(self) -> None:
        """Leave the server; idempotent, from any thread. Views remain valid; iterators end, including blocked ones."""
        if self._life is not _Life.ATTACHED:
            return
        is_inside = is_owned(self._lock)
        with defer_signals():
            # Defer signals: a handler that raised here would leave the consumer closed, but its descriptors open.
            self._life, self._needs_attention = _Life.CLOSED, True
            # A thread blocked in `next` holds the lock until the server sends something, so do not wait for the lock
            # here. `leave_concurrently` wakes that thread.
            if not is_inside and self._lock.acquire(blocking=False):
                try:
                    self._attachment.leave()
                    self._close_late()
                finally:
                    self._lock.release()
                return
            self._attachment.link.leave_concurrently()
        # If a signal handler called close() inside `next`, the descriptors are in use further up the stack.
        if not is_inside:
            with self._lock:
                self._close_late()

    def _close_late(self) -> None:
        """Close the descriptors after `close`, once no call uses them."""
        if self._life is _Life.CLOSED:
            self._needs_attention = True
            self._loop = None
            self._counts.end(self._attachment)
            self._attachment.close()
            self._finalizer.detach()

    def disown(self) -> None:
        """Refuse all calls in a forked child: the connection is the parent's, and its lock may be held forever."""
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
            "a Consumer cannot be pickled or sent to another process: its connection belongs to this process. Attach "
            f"in the other process with mpqueue.attach({self._name!r})"
        )

    def __repr__(self) -> str:
        rank = "" if self._terms.rank is None else f", rank {self._terms.rank}"
        state = "attached" if self._attachment.link.death is None else "detached"
        if self._life is not _Life.ATTACHED:
            state = "closed" if self._life is _Life.CLOSED else "of another process"
        return f"<Consumer of {self._name!r}{rank}, epoch {self._epoch}, {state}>"


class ConsumerIterator(Iterator[Batch_co]):
    """The batches of one loop over a `Consumer`.

    Several threads may call ``__next__`` at the same time: each batch goes to one thread, and the end to all.

    Args:
        consumer: The consumer.
        epoch: The epoch of its batches; None if it continues an epoch that an earlier loop has started.

    Attributes:
        epoch: The same. It is known once the iterator has yielded a batch, or raised an exception in place of one.
        is_replaced: True if a later iterator has replaced this one.
    """

    def __init__(self, consumer: Consumer, epoch: int | None) -> None:
        self._consumer, self.epoch, self.is_replaced = consumer, epoch, False
        self._next: Callable[[ConsumerIterator[Batch_co]], Batch_co] = consumer.next

    def __next__(self) -> Batch_co:
        # No code between the call and the return: a signal handler could raise there, and the batch would be lost.
        return self._next(self)

    def end(self) -> NoReturn:
        """Raise the exception that ends this iterator."""
        if self.is_replaced:
            raise RuntimeError(
                "this iterator was invalidated by a later iterator of the same Consumer, which yields each batch only "
                "once: for two simultaneous loops (nested, or in zip), attach twice"
            )
        raise StopIteration

    def __repr__(self) -> str:
        return f"<batches of {self._consumer!r}>"


def _abandon(attachment: Attachment, counts: Counts) -> None:
    """Leave the server and end the counters of a consumer that was garbage collected."""
    attachment.abandon()
    counts.end(attachment)


def _sort_out(partial: tuple[Any, list[Any], bool]) -> tuple[Any, SkippedSamples]:
    """Return the rest of a batch (`_NOTHING` if it is empty) and the skipped samples."""
    value, skipped, is_empty = partial
    return _NOTHING if is_empty else value, SkippedSamples.of(skipped)


@suggests_keywords
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
) -> Consumer:
    """Attach to a server on this machine and return a consumer of its batches.

    Example:
        A server and a trainer, which usually is another program::

            import mpqueue

            with mpqueue.Server("numbers", [10, 20, 30], mode="broadcast", workers=1):
                with mpqueue.attach("numbers", timeout=30) as consumer:
                    for epoch in range(2):
                        assert [int(batch) for batch in consumer] == [10, 20, 30]

    Args:
        name: Name of the server, or the path of its folder (with a slash).
        rank: Rank of this consumer, from 0 to ``world - 1``. None for a server without ranks.
        timeout: Maximum number of seconds to wait for the server and for its answer. None: no limit.
        uid: User id of the server's owner. None: the current user. Servers of all other users are refused, including
            root's. For a name without a slash, and without ``MPQUEUE_HOME``, the server of a different user is expected
            in ``mpqueue-UID`` in the folder for temporary files.
        join: The batches for a consumer that attaches in the middle of an epoch of ``mode="broadcast"``: "next" (it
            starts with the next epoch) or "now" (the rest of the running epoch).
        reconnect: If True and the server crashes, wait up to ``timeout`` seconds for a new server with the same name
            and journal, and continue.
        writable: False: batches are read-only views of shared memory. "copy": each batch is a private, writable copy.
        allow_pickle: Whether to unpickle objects in batches and exceptions from the server. Unpickling can run
            arbitrary code. None: True if the server belongs to the current user.
        trace: Path of a file for a timeline of this consumer, for Perfetto or Chrome: its waits, and how long it holds
            each batch. None: the value of ``MPQUEUE_TRACE``, or no timeline.

    Returns:
        An attached `Consumer`: an iterable of batches with the structure, dtypes and shapes of the source, one ``for``
            loop per epoch. The arrays are read-only views of shared memory, valid while any view of them exists.

    Raises:
        ServiceError: No server was found within the timeout, the server refused the consumer, or the server belongs to
            another user. The message states the reason and a remedy.
        ValueError: The name or an argument has an invalid value.
        TypeError: An argument has the wrong type.
        OSError: The trace cannot be written; or there are not enough descriptors or not enough address space.
    """
    checks.integer(0, or_none=True)("rank", rank)
    checks.number("a number of seconds", or_none=True)("timeout", timeout)
    if str(join) == "replay":  # not among the types: a type checker refuses it
        raise ValueError('join="replay" is not offered: a server computes each batch once. Pass "next" or "now"')
    checks.one_of("next", "now")("join", join)
    if writable is not False and writable != "copy":
        raise ValueError(f'writable must be False or "copy" (all consumers share the memory), got {writable!r}')
    checks.flag("reconnect", reconnect)
    if allow_pickle is not None:
        checks.flag("allow_pickle", allow_pickle)
    checks.path("trace", trace)
    directory, rank = ServerDirectory.of(name, uid), None if rank is None else int(rank)
    terms = AttachTerms(name, directory, rank, timeout, join, reconnect, writable == "copy", allow_pickle)
    with defer_signals():
        attachment = open_attachment(terms)
        try:
            counts = Counts(open_timeline(name, trace))
        except BaseException:
            attachment.abandon()
            raise
        return Consumer(terms, attachment, counts)
