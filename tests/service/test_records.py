"""The service's messages and their contents, in addition to the tests of all records in `transport/test_records.py`."""

import pytest
from helpers.requests import ConsumerRequest

from mpqueue.service.records import (
    DETACHED,
    MAX_BODY,
    MAX_MESSAGE,
    MAX_OFFERS,
    OFFER,
    TEXT,
    Offer,
    Text,
    ToConsumer,
    ToServer,
    unpack_down,
)
from mpqueue.transport.records import ProtocolError


def offer(**fields):
    return Offer(ToConsumer.OFFER, 0, 1, 2, 3, 4, 5, 6, 7, 8)._replace(**fields)


@pytest.mark.parametrize("count", [1, 2, MAX_OFFERS])
def test_offers_and_ends_of_one_message_keep_their_order(count):
    sent = [offer(number=number, kind=(ToConsumer.OFFER, ToConsumer.END)[number % 2]) for number in range(count)]
    data = b"".join(OFFER.pack(*one) for one in sent)
    assert len(data) == count * OFFER.size <= MAX_MESSAGE
    assert unpack_down(data) == sent


@pytest.mark.parametrize("kind", sorted(TEXT.kinds))
@pytest.mark.parametrize("length", [0, 1, 2 * OFFER.size - TEXT.size, MAX_BODY])
def test_text_is_parsed_unchanged_even_with_length_of_offers(kind, length):
    text = Text(kind, DETACHED, 7, b"x" * length)
    assert len(text.pack()) <= MAX_MESSAGE
    assert unpack_down(text.pack()) == [text]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * OFFER.size,
        OFFER.pack(*offer()) + OFFER.pack(*offer(kind=ToConsumer.SPEC)),
        OFFER.pack(*offer()) + ConsumerRequest(ToServer.ASK).pack(),
        OFFER.pack(*offer()) + Text(ToConsumer.CUT, DETACHED, 0, b"").pack(),
        ConsumerRequest(ToServer.ASK).pack(),
    ],
    ids=["nothing", "zeros", "a text as an offer", "a request after it", "a text after it", "a request"],
)
def test_invalid_server_messages_are_refused(data):
    with pytest.raises(ProtocolError):
        unpack_down(data)
