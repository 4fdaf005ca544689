"""The service's messages and their contents, in addition to the tests of all records in `transport/test_records.py`."""

import pytest
from helpers.requests import ConsumerRequest

from mpqueue.service.records import (
    DETACHED,
    OFFER,
    Offer,
    Text,
    ToConsumer,
    ToServer,
    unpack_down,
)
from mpqueue.transport.records import ProtocolError


def offer(**fields):
    return Offer(ToConsumer.OFFER, 0, 1, 2, 3, 4, 5, 6, 7, 8)._replace(**fields)


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
