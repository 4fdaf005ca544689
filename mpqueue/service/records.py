"""Records between a server and one consumer: they go over a SEQPACKET socket, which keeps messages apart.

    consumer                                             server
    --------                                             ------
    handshake (JSON)  ------------------------------->    who am I, what do I want
                     <-------------------------------    handshake (JSON), with the descriptor of the ring; or why not
    BEGIN            ------------------------------->    my next loop has begun
                     <-------------------------------    SPEC     how batches of a new structure are read
                     <-------------------------------    OFFER    a batch lies in this slot; ahead, up to the window
    ASK              ------------------------------->    I have taken so many, and hold these slots no more
                     <-------------------------------    RAISED   the source raised this in the place of a batch
                     <-------------------------------    MISSED   you were slow, and did not get so many
                     <-------------------------------    END      you have had all of this epoch
                     <-------------------------------    RECALL   forget the offers above this number, which you have
                                                                  not opened
                     <-------------------------------    CUT      you are detached, or the stream is over, and why
    LEAVE            ------------------------------->    I go

All that a consumer sends is of one fixed size, as are OFFER, MISSED and END, of which a message may hold several. SPEC,
RAISED, RECALL and CUT have a head and a body of bounded size. A message is there wholly or not at all, whenever its
sender is killed. Nothing that a server receives is ever unpickled, and a message that does not parse ends its
connection.

Offers and exceptions are numbered for each consumer, from 1 on, and it takes them in this order. One is *taken* when
the consumer asks for the next one: ASK says how many were, from the beginning of the connection. A slot is *released*
when the last view of its batch is gone, before or after: ASK names the turns, of which none is 0.

*RECALL.* The server takes offers back that nobody has asked for, and needs no answer. The order of the steps decides:

    consumer                              server
    1. sends ASK                          1. sends RECALL
    2. reads all that has come            2. reads all that has come
    3. opens one batch: the next one      3. gives away what no ASK of step 2, or before, has asked for

Each side writes before it reads. `send` returns when the message lies in the other's queue, and a socket keeps the
order. So an ASK that the server does not find in step 2 was sent after the RECALL, and its sender finds that in its own
step 2, before it opens anything, whatever it had read before: it drops what it has above the number. An ASK that the
server does find may have been sent on either side of the RECALL. Whether the one batch that it asks for was opened or
dropped is not known, so that this batch stays with the consumer, and is offered again under its number: who was handed
a batch of this number ignores it. What lies behind that batch takes another ASK. Numbers above it are used again. The
server does not recall where it cannot send at once, nor while offers wait to be sent: those would come behind the
RECALL, and not be dropped.
"""

from functools import partial
from typing import NamedTuple

from mpqueue.transport.records import RecordType, kinds_of

MAGIC = 0x5153
MAX_BODY = 1 << 16
MAX_HANDSHAKE = 1 << 17  # the positions of 4096 batches in decimal, at most
MAX_RELEASED = 6  # turns in one ASK
MAX_OFFERS = 32  # in one message


class ToServer:
    """Kinds of a consumer's records; plain ints, because they are compared in the hot path."""

    ASK, BEGIN, LEAVE = 1, 2, 3


class ToConsumer:
    """Kinds of a server's records."""

    OFFER, END, SPEC, RAISED, CUT, MISSED, RECALL = 11, 12, 13, 14, 15, 16, 17


BATCHES = frozenset({ToConsumer.OFFER, ToConsumer.RAISED})  # the kinds that are numbered for their consumer
_OFFERS = frozenset({ToConsumer.OFFER, ToConsumer.END, ToConsumer.MISSED})

# The value of ASK: offers taken since the beginning; of BEGIN: the epoch that begins; of LEAVE: see `DROPPED`.
REQUEST = RecordType("kind:B _:5x value:Q released:6Q", magic=MAGIC, kinds=kinds_of(ToServer))
OFFER = RecordType(
    "kind:B flags:B spec:I number:Q turn:Q slot:I epoch:I position:Q header_offset:Q nbytes:Q",
    magic=MAGIC, kinds=_OFFERS,
)  # fmt: skip
TEXT = RecordType(
    "kind:B flags:B nbytes:I number:Q",
    magic=MAGIC, kinds=kinds_of(ToConsumer) - _OFFERS, most={"nbytes": MAX_BODY},
)  # fmt: skip

_NO_TURNS = tuple((0,) * (MAX_RELEASED - length) for length in range(MAX_RELEASED + 1))  # behind so many
MAX_MESSAGE = max(TEXT.size + MAX_BODY, MAX_OFFERS * OFFER.size)  # of the records; a handshake is apart

PARTIAL = 1  # a flag of OFFER: the slot holds a batch of which something was left out, with the list of that
PICKLED = 1  # a flag of SPEC and RAISED: the body is a pickle
MORE = 2  # a flag of SPEC: its body goes on in the next message
DROPPED = 1  # the value of LEAVE: nobody refers to the consumer any more, which counts as a death
DETACHED, LOST, STOPPED = 0, 1, 2  # the flags of CUT: you; another of the group; the server


def pack_request(kind: int, value: int = 0, released: tuple[int, ...] = ()) -> bytes:
    """Return the bytes of a consumer's record, with the turns of slots that it holds no more."""
    return REQUEST.pack(kind, value, *released, *_NO_TURNS[len(released)])


class Offer(NamedTuple):
    """A batch that lies in a slot, the end of an epoch, or how many batches were missed.

    Attributes:
        kind: `ToConsumer.OFFER`, `ToConsumer.END` or `ToConsumer.MISSED`.
        flags: `PARTIAL` or 0.
        spec: Number of its spec.
        number: Its place among the consumer's offers, from 1.
        turn: Of the slot; by this an ASK releases it.
        slot: Number of the slot.
        epoch: From 0.
        position: Of the batch in its epoch, over all consumers; of END: how many batches the consumer has had of it;
            of MISSED: how many it has not had since it came, because it was slow.
        header_offset: Where in the slot the batch's header begins.
        nbytes: Where in the slot it ends.
    """

    kind: int
    flags: int
    spec: int
    number: int
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
        number: Of the spec; of RAISED its place among the consumer's offers; of RECALL that of the last which stays.
        body: A spec, an exception, or a text in UTF-8; of RECALL nothing.
    """

    kind: int
    flags: int
    number: int
    body: bytes

    def pack(self) -> bytes:
        """Return its bytes."""
        assert len(self.body) <= MAX_BODY
        return TEXT.pack(self.kind, self.flags, len(self.body), self.number) + self.body


def unpack_down(data: bytes) -> "list[Offer] | list[Text]":
    """Return what a server's message says: offers and ends in their order, or one text.

    Raises:
        ProtocolError: It says nothing.
    """
    # By the kind of the first one: a message holds offers and ends, or one text. All of the loop is in C.
    if data[2:3] and data[2] in _OFFERS:
        return list(map(_make_offer, OFFER.parse_all(data)))
    (kind, flags, _nbytes, number), body = TEXT.parse_with_body(data)
    return [Text(kind, flags, number, body)]
