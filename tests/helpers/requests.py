"""What a consumer sends, as tests say it and compare it."""

from typing import NamedTuple, Self

from mpqueue.service.records import REQUEST, pack_request


class ConsumerRequest(NamedTuple):
    """A record of a consumer; see `mpqueue.service.records`."""

    kind: int
    value: int = 0
    released: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Its bytes."""
        return pack_request(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """What a message says."""
        kind, value, *turns = REQUEST.parse(data)
        return cls(kind, value, tuple(filter(None, turns)))
