"""Memory with the interface of a segment, without calls to the operating system."""


class PlainMemory:
    """A segment in ordinary memory. All of it can be reserved."""

    def __init__(self, nbytes):
        self.memory = bytearray(nbytes)

    def reserve(self, offset, end, *, spare=0):
        assert 0 <= offset < end <= len(self.memory)

    def populate(self, offset, end):
        assert 0 <= offset < end <= len(self.memory)
