"""Records: what is packed is unpacked, of one size, and nothing else is unpacked at all."""

import pytest
from helpers.bending import bent, edits
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue.service.records import (
    DETACHED,
    MAX_BODY,
    MAX_MESSAGE,
    MAX_OFFERS,
    MAX_RELEASED,
    MORE,
    OFFER_BYTES,
    REQUEST_BYTES,
    CorruptMessage,
    Down,
    Offer,
    Request,
    Text,
    Up,
    unpack_down,
)

bytes_, shorts, words = st.integers(0, 255), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
requests = st.builds(
    Request,
    kind=st.sampled_from([Up.ASK, Up.BEGIN, Up.LEAVE]),
    value=words,
    released=st.lists(words, max_size=MAX_RELEASED).map(tuple),
)
offers = st.builds(
    Offer,
    kind=st.sampled_from([Down.OFFER, Down.END]),
    flags=bytes_,
    spec=shorts,
    number=words,
    turn=words,
    slot=shorts,
    epoch=shorts,
    position=words,
    header_offset=words,
    nbytes=words,
)
messages = st.lists(offers, min_size=1, max_size=MAX_OFFERS)
texts = st.builds(
    Text,
    kind=st.sampled_from([Down.SPEC, Down.RAISED, Down.CUT, Down.RECALL]),
    flags=bytes_,
    number=words,
    body=st.binary(max_size=100) | st.just(b"x" * MAX_BODY),
)


def packed(offers):
    return b"".join(offer.pack() for offer in offers)


@given(requests)
def test_what_a_consumer_sends_comes_out_equal_and_is_of_one_size(request):
    data = request.pack()
    assert len(data) == REQUEST_BYTES
    assert Request.unpack(data) == request


@given(messages)
def test_offers_of_one_message_come_out_equal_in_their_order(offers):
    data = packed(offers)
    assert len(data) == len(offers) * OFFER_BYTES <= MAX_MESSAGE
    assert unpack_down(data) == offers


@given(texts)
def test_texts_come_out_equal(text):
    data = text.pack()
    assert len(data) <= MAX_MESSAGE
    assert unpack_down(data) == [text]


def test_a_text_of_the_size_of_an_offer_is_no_offer():
    text = Text(Down.CUT, DETACHED, 0, b"x" * (2 * OFFER_BYTES - 16))
    assert len(text.pack()) == 2 * OFFER_BYTES
    assert unpack_down(text.pack()) == [text]


@pytest.mark.parametrize("length", [0, 1, REQUEST_BYTES - 1, REQUEST_BYTES + 1, 2 * REQUEST_BYTES, 1 << 16])
def test_a_request_of_another_size_is_none(length):
    data = (Request(Up.ASK).pack() * 2000)[:length]
    with pytest.raises(CorruptMessage, match=f"of {length} bytes, of {REQUEST_BYTES} expected"):
        Request.unpack(data)


@pytest.mark.parametrize(
    ("at", "byte"),
    [(0, 0), (1, 0), (2, 0), (2, 4), (2, Down.OFFER), (2, 255), (3, MAX_RELEASED + 1), (3, 255), (3, 0), (-1, 1)],
    ids=[
        "magic",
        "magic",
        "kind 0",
        "kind 4",
        "a server's",
        "kind 255",
        "7 turns",
        "255 turns",
        "turns beyond",
        "a last",
    ],
)
def test_a_request_with_a_wrong_byte_is_none(at, byte):
    data = bytearray(Request(Up.ASK, 5, (7, 8)).pack())
    data[at] = byte
    with pytest.raises(CorruptMessage, match="a record that begins with"):
        Request.unpack(bytes(data))


def offer(**fields):
    return Offer(Down.OFFER, 0, 1, 2, 3, 4, 5, 6, 7, 8)._replace(**fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * OFFER_BYTES,
        offer().pack()[:-1],
        offer().pack() + b"\0",
        b"\0" + offer().pack()[1:],
        offer().pack() + offer(kind=Down.SPEC).pack(),
        offer().pack() + offer(kind=Up.ASK).pack(),
        offer().pack() + b"\0" * OFFER_BYTES,
        offer(kind=Down.MISSED + 1).pack(),
        Request(Up.ASK).pack(),
        Text(Down.SPEC, MORE, 1, b"body").pack()[:-1],
        Text(Down.SPEC, MORE, 1, b"body").pack() + b"x",
        Text(Down.CUT, 0, 0, b"").pack()[:-1],
    ],
    ids=repr,
)
def test_what_no_server_sends_is_a_corrupt_message(data):
    with pytest.raises(CorruptMessage, match="bytes that begins with"):
        unpack_down(data)


@settings(max_examples=300)
@given(
    st.binary(max_size=300)
    | requests.map(Request.pack)
    | st.lists(offers, max_size=3).map(packed)
    | texts.map(Text.pack),
    st.integers(0, 300),
    edits,
)
def test_random_truncated_and_mutated_bytes_are_a_record_or_a_corrupt_message(data, length, edits):
    """And what is taken for a record is one that says the same again."""
    for damaged in (data, data[:length], bent(data, edits), bent(data, edits)[:length]):
        try:
            assert Request.unpack(damaged).pack()[:4] == damaged[:4]
        except CorruptMessage:
            pass
        try:
            assert packed(unpack_down(damaged)) == damaged
        except CorruptMessage:
            pass
