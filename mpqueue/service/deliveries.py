"""Does what the core decides: offers to peers, slots to the stream, what was taken to the journal."""

import time
from typing import Any

from mpqueue.memory.layout import Spec
from mpqueue.memory.slots import SlotError
from mpqueue.service.journal import Journal
from mpqueue.service.lots import Failure, Lot
from mpqueue.service.peer import Peer, Stage
from mpqueue.service.records import PICKLED, Offer, Text, ToConsumer
from mpqueue.service.seats import Seat, SeatBatch
from mpqueue.service.specs import encode_spec
from mpqueue.service.stream import Stream
from mpqueue.service.tracing import ConsumerRows
from mpqueue.telemetry.timeline import Timeline
from mpqueue.worker import failures

_MAX_SPECS = 4096


class Specs:
    """Numbers for the specs of batches; one that has one keeps it, as long as there are not thousands of others.

    Attributes:
        numbers: Of all that have one.
    """

    def __init__(self) -> None:
        self.numbers: dict[Spec, int] = {}
        self._bodies: dict[int, tuple[bytes, bool]] = {}
        self._last = 0

    def teach(self, peer: Peer, spec: Spec) -> int:
        """Return the number of a spec, which the peer does not know yet, or which has none."""
        number = self.numbers.get(spec)
        if number is None:
            if len(self.numbers) >= _MAX_SPECS:
                self.numbers.clear()
                self._bodies.clear()
            self._last += 1
            number = self.numbers[spec] = self._last
            self._bodies[number] = encode_spec(spec)
        body, is_pickled = self._bodies[number]
        peer.teach(number, body, is_pickled=is_pickled)
        return number


class Deliveries:
    """The core's `mpqueue.service.rules.Outside`.

    Args:
        stream: Gives the lots, and keeps who holds them.
        peers: By number of the consumer.
        journal: None: there is none.
        uid: Of this process: others' consumers get exceptions as text.
        timeline: Where the consumers are drawn; None: nowhere.
    """

    def __init__(
        self,
        stream: Stream,
        peers: dict[int, Peer],
        journal: Journal | None,
        uid: int,
        timeline: Timeline | None = None,
    ) -> None:
        self._stream, self._peers, self._journal, self._uid = stream, peers, journal, uid
        self._rows = None if timeline is None else ConsumerRows(timeline)
        self._specs = Specs()
        self._holders: dict[int, set[int]] = {}  # of each slot that somebody has, by its turn
        self.touched: set[Peer] = set()

    def offer(self, consumer: int, number: int, batch: SeatBatch) -> None:
        """Tell a consumer of a batch, or of the exception in its place."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        if peer.waits_since is not None:
            peer.wait_s += time.monotonic() - peer.waits_since
            peer.waits_since = None
        if self._rows is not None:
            self._rows.offer(peer)
        if isinstance(batch, Failure):
            peer.tell(self._raised(peer, number, batch))
            return
        assert isinstance(batch, Lot)
        spec = self._specs.numbers.get(batch.spec)
        if spec is None or spec not in peer.specs:  # seldom
            spec = self._specs.teach(peer, batch.spec)
        peer.offer(
            Offer(
                ToConsumer.OFFER, batch.flags, spec, number, batch.turn, batch.slot.number, batch.epoch, batch.position,
                batch.header_offset, batch.nbytes,
            )
        )  # fmt: skip

    def _raised(self, peer: Peer, number: int, failure: Failure) -> Text:
        error = failure.error
        assert error is not None
        if peer.credentials.uid == self._uid:
            note = f"raised in the server, in the place of batch {failure.position} of epoch {failure.epoch}"
            return Text(ToConsumer.RAISED, PICKLED, number, failures.pack(error, note))
        return Text(ToConsumer.RAISED, 0, number, f"{type(error).__name__}: {error}".encode()[:4096])

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Count and draw as if a consumer had not been offered a batch."""
        peer = self._peers[consumer]
        if isinstance(batch, Lot):
            peer.num_bytes -= batch.nbytes
        if self._rows is not None and not has_more:
            self._rows.withdraw(peer)

    def miss(self, consumer: int, count: int) -> None:
        """Tell a consumer how many batches it has not had since it came, because it was slow."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.offer(Offer(ToConsumer.MISSED, 0, 0, 0, 0, 0, 0, count, 0, 0))

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Tell a consumer that it has had all of an epoch."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.offer(Offer(ToConsumer.END, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Tell a consumer that it is detached, and why."""
        peer = self._peers[consumer]
        self.touched.add(peer)
        peer.stage = Stage.CUT
        peer.tell(Text(ToConsumer.CUT, flag, 0, text.encode()))

    def hold(self, batch: Any, holder: int) -> None:
        """Note another holder of a slot; the stream hears of the first one."""
        turn = batch.turn
        if not turn:
            return
        if (holders := self._holders.get(turn)) is None:
            self._holders[turn] = {holder}
            self._stream.share(batch)
        elif holder in holders:
            raise SlotError(f"{holder} has {batch} already")
        else:
            holders.add(holder)

    def let_go(self, batch: Any, holder: int) -> None:
        """Note one less; the last one frees it."""
        turn = batch.turn
        if not turn:
            return
        holders = self._holders.get(turn, set())
        if holder not in holders:
            raise SlotError(f"{holder} does not have {batch}")
        holders.remove(holder)
        if not holders:
            del self._holders[turn]
            self._stream.release(batch)

    def open_epoch(self, epoch: int) -> int | None:
        """Have the stream give an epoch."""
        return self._stream.open_epoch(epoch)

    def finish_epoch(self, epoch: int) -> None:
        """Run the end of an epoch."""
        self._stream.finish_epoch()
        self._note_epoch(epoch + 1)

    def abandon(self, epoch: int) -> None:
        """Leave the rest of an epoch: the stream drops it when the next one is opened."""
        self._note_epoch(epoch + 1)

    def _note_epoch(self, epoch: int) -> None:
        if self._journal is not None:
            self._journal.begin(epoch, state_of(self._stream.plan.job.source))

    def recompute(self, epoch: int, position: int) -> None:
        """Have a batch computed again."""
        try:
            self._stream.recompute(epoch, [position])
        except LookupError as error:  # a sampler's, not kept any more: then none behind it is
            self._stream.unknown.append(Failure(epoch, position, error, is_extra=True))

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Write down that a batch was taken, and draw it."""
        if self._rows is not None:
            self._rows.take(self._peers[seat.consumer], batch, has_more=bool(seat.untaken))
        if self._journal is not None:
            self._journal.note_taken(batch.position, seat.consumer if seat.rank is None else seat.rank)

    def flush(self) -> list[Peer]:
        """Send what was collected; return the peers whose sockets are full now, or have room again."""
        changed = []
        for peer in self.touched:
            was_full = peer.is_full
            peer.flush()
            if peer.is_full != was_full:
                changed.append(peer)
        self.touched.clear()
        return changed


def state_of(source: Any) -> Any:
    """Return the state of a source that has one, else None."""
    take = getattr(source, "state_dict", None)
    return take() if callable(take) else None
