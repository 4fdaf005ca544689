"""Messages of a consumer, in a form that tests can write and compare."""

from typing import NamedTuple, Self

from mpqueue.service.protocol.records import REQUEST, pack_request


class ConsumerRequest(NamedTuple):
    """A record of a consumer; see `mpqueue.service.protocol.records`."""

    kind: int
    value: int = 0
    released: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Return the encoded record."""
        return pack_request(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Decode a message."""
        kind, value, *turns = REQUEST.parse(data)
        return cls(kind, value, tuple(filter(None, turns)))
