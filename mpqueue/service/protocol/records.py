"""Records between a server and one consumer, sent over a SEQPACKET socket, which preserves message boundaries.

    consumer                                             server
    --------                                             ------
    handshake (JSON)  ------------------------------->    rank, earlier connection
                     <-------------------------------    handshake (JSON) with the descriptor of the ring, or a refusal
    BEGIN            ------------------------------->    my next loop has started
                     <-------------------------------    SPEC     how to read batches of a new structure
                     <-------------------------------    OFFER    a batch is in this slot; sent ahead, up to the window
    ASK              ------------------------------->    number of taken batches; turns of released slots
                     <-------------------------------    RAISED   the source raised this in place of a batch
                     <-------------------------------    MISSED   number of batches missed by a slow consumer
                     <-------------------------------    END      the epoch is over for this consumer
                     <-------------------------------    RECALL   drop unopened offers above this id
                     <-------------------------------    CUT      this consumer is detached, or the server stops; reason
    LEAVE            ------------------------------->    I leave

All records of a consumer have one fixed size, and so have `OFFER`, MISSED and END; one message may contain several of
these. SPEC, `RAISED`, `RECALL` and `CUT` have a head and a body of bounded size; SPEC may have several parts. A message
arrives as a whole or not at all, whenever its sender is killed. A server never unpickles received data. A message that
cannot be parsed ends the connection.

Offers and exceptions are numbered per consumer, from 1, and a consumer takes them in this order. A batch is *taken*
when the consumer requests the next one: `ASK` contains the number of taken ones since the beginning of the connection.
A slot is *released* when no view of its batch exists anymore, which can be earlier or later. `ASK` lists the released
turns, which are never 0.

*Requests without a message.* A message wakes the server, and costs two system calls. So with the ring, a consumer gets
a page of memory for one number, its taken batches. A request stores that number, and only some requests also send the
`ASK`: the first one of a loop, one after `MAX_RELEASED` others, one after more than 0.2 ms, one without enough other
offers, and each one before a wait. The server reads the number before each of its decisions, and after the consumer has
left or exited. So an `ASK` is a stored number in the following, whether it is sent or not.

*`RECALL`.* The server takes back offers that were not requested, without waiting for an answer. This is safe because of
the order of the steps:

    consumer                              server
    1. `ASK`                              1. sends `RECALL`
    2. reads all received messages        2. reads all received messages, and the number in memory
    3. opens one batch: the next one      3. reassigns the offers that no `ASK` has requested until step 2

A `RECALL` also drops a received END, which follows the last offer. The server sends it again when it is due.

Each side writes before it reads. `send` returns when the message is in the receiver's queue, and a socket preserves the
order. A stored number is visible to the server before the system calls of its step 2 return. There are two cases:

- The server does not find the `ASK` in step 2. Then it was made after the `RECALL`, and its consumer finds the
  `RECALL` in its own step 2, before it opens a batch. It drops all offers above the id.
- The server finds the `ASK`. It may have been made before or after the `RECALL`, so the server does not know whether
  the requested batch was opened or dropped. That batch remains the consumer's, and is offered again under the same
  id. A consumer that has opened it ignores the repeated offer. Each later batch requires another `ASK`.

Ids above the recalled one are used again. The server does not recall if it cannot send at once, or while offers are
queued: these would arrive after the `RECALL` and not be dropped.
"""

from functools import partial
from typing import NamedTuple

from mpqueue.transport.records import RecordType, kinds_of

MAGIC = 0x5153
MAX_BODY = 1 << 16
MAX_HANDSHAKE = 1 << 17  # enough for the positions of 4096 batches in decimal
MAX_RELEASED = 16  # turns in one `ASK`
MAX_OFFERS = 32  # in one message


class ToServer:
    """Kinds of a consumer's records; plain integers, because they are compared in the hot path."""

    ASK, BEGIN, LEAVE = 1, 2, 3


class ToConsumer:
    """Kinds of a server's records."""

    OFFER, END, SPEC, RAISED, CUT, MISSED, RECALL = 11, 12, 13, 14, 15, 16, 17


BATCHES = frozenset({ToConsumer.OFFER, ToConsumer.RAISED})  # the kinds that are numbered for their consumer
_OFFERS = frozenset({ToConsumer.OFFER, ToConsumer.END, ToConsumer.MISSED})

# The value of `ASK` is the number of offers taken so far, of `BEGIN` the epoch, of `LEAVE` 0 or `DROPPED`. The size is
# fixed, so that the server can reject anything else before parsing it.
REQUEST = RecordType("kind:B _:5x value:Q released:16Q", magic=MAGIC, kinds=kinds_of(ToServer))
OFFER = RecordType(
    "kind:B flags:B spec:I number:Q turn:Q slot:I epoch:I position:Q header_offset:Q nbytes:Q",
    magic=MAGIC,
    kinds=_OFFERS,
)
TEXT = RecordType(
    "kind:B flags:B nbytes:I number:Q epoch:I position:q",
    magic=MAGIC,
    kinds=kinds_of(ToConsumer) - _OFFERS,
    most={"nbytes": MAX_BODY},
)

_NO_TURNS = tuple((0,) * (MAX_RELEASED - length) for length in range(MAX_RELEASED + 1))  # padding, by number of turns
MAX_MESSAGE = max(TEXT.size + MAX_BODY, MAX_OFFERS * OFFER.size)  # of records, not of handshakes

PARTIAL = 1  # a flag of `OFFER`: samples were skipped; the slot also holds the list of these samples
PICKLED = 1  # a flag of SPEC and `RAISED`: the body is a pickle
MORE = 2  # a flag of SPEC: the body continues in the next message
DROPPED = 1  # a value of `LEAVE`: the consumer was garbage collected, which counts as a crash
# The flags of `CUT`: this consumer was detached, another consumer of the group was lost, or the server has stopped.
DETACHED, LOST, STOPPED = 0, 1, 2


def pack_request(kind: int, value: int = 0, released: tuple[int, ...] = ()) -> bytes:
    """Return the bytes of a consumer's record with the turns of released slots."""
    return REQUEST.pack(kind, value, *released, *_NO_TURNS[len(released)])


class Offer(NamedTuple):
    """A batch in a slot, the end of an epoch, or the number of missed batches.

    Attributes:
        kind: `ToConsumer.OFFER`, `ToConsumer.END` or `ToConsumer.MISSED`.
        flags: `PARTIAL` or 0.
        spec: Id of its spec.
        id: Its id among the consumer's offers, from 1.
        turn: Turn of the slot, which an `ASK` names to release it.
        slot: Index of the slot.
        epoch: Epoch, from 0.
        position: Position of the batch in its epoch, over all consumers. For END: the number of batches of the epoch
            that the consumer has had. For MISSED: the number of batches that it has missed since it attached.
        header_offset: Offset of the batch's header in the slot.
        nbytes: Offset of the batch's end in the slot.
    """

    kind: int
    flags: int
    spec: int
    id: int
    turn: int
    slot: int
    epoch: int
    position: int
    header_offset: int
    nbytes: int


_make_offer = partial(tuple.__new__, Offer)  # Offer's own `_make` takes twice as long


class Text(NamedTuple):
    """A message with a body.

    Attributes:
        kind: `ToConsumer.SPEC`, `ToConsumer.RAISED`, `ToConsumer.RECALL` or `ToConsumer.CUT`.
        flags: See `PICKLED`, `MORE` and `DETACHED`.
        id: For SPEC its id; for `RAISED` the id among the consumer's offers; for `RECALL` the id of the
            last offer that remains.
        body: A spec, an exception or a string in UTF-8; empty for `RECALL`.
        epoch, position: For `RAISED`, epoch and position of the batch that the exception replaces. The position is -1
            without such a batch, and for all other kinds.
    """

    kind: int
    flags: int
    id: int
    body: bytes
    epoch: int = 0
    position: int = -1

    def pack(self) -> bytes:
        """Return the encoded message."""
        assert len(self.body) <= MAX_BODY
        head = TEXT.pack(self.kind, self.flags, len(self.body), self.id, self.epoch, self.position)
        return head + self.body


def unpack_down(data: bytes) -> "list[Offer] | list[Text]":
    """Return the records of a server's message: offers and ends in order, or one `Text`.

    Raises:
        ProtocolError: The message is invalid.
    """
    # The first kind decides: a message contains offers and ends, or one text. The loop over the offers runs in C.
    if data[2:3] and data[2] in _OFFERS:
        return list(map(_make_offer, OFFER.parse_all(data)))
    (kind, flags, _nbytes, id_, epoch, position), body = TEXT.parse_with_body(data)
    return [Text(kind, flags, id_, body, epoch, position)]
