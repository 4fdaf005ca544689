"""A window over a file: data is read in blocks, used in place, and dropped afterwards."""

from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.tf1.readers.opening import BLOCK_BYTES, ByteSource


class BlockBuffer:
    """A window over a byte source that grows at the end and shrinks at the start.

    A record is a slice of one big ``bytes`` object, which needs no system call; only `fill` reads. A failed call loses
    no data and can be retried.

    Args:
        source: The source of the bytes; `close` closes it.

    Attributes:
        block: The bytes in memory. Unread bytes start at ``place``.
        place: Index in ``block`` of the first unread byte.
    """

    def __init__(self, source: ByteSource) -> None:
        keep_freed_memory()
        self._source = source
        self._passed_bytes = 0  # number of bytes of the file before `block`
        self.block, self.place = b"", 0

    @property
    def offset(self) -> int:
        """Offset of the first unread byte in the (decompressed) file."""
        return self._passed_bytes + self.place

    @property
    def num_unread(self) -> int:
        """Number of unread bytes in memory."""
        return len(self.block) - self.place

    def fill(self, num_bytes: int) -> bool:
        """Read until at least ``num_bytes`` unread bytes are in memory; return False if the file ends before.

        Args:
            num_bytes: Required number of bytes. At least a whole block is read, which reduces the number of calls.
        """
        missing = num_bytes - self.num_unread
        if missing <= 0:
            return True
        parts = [self.block[self.place :]] if self.num_unread else []
        try:
            while missing > 0 and (part := self._source.read(max(missing, BLOCK_BYTES))):
                parts.append(part)
                missing -= len(part)
        finally:
            # Also if a read fails: keep the data that was read before it. The next call continues after that data.
            self._passed_bytes, self.place = self.offset, 0
            self.block = b"".join(parts)
        return missing <= 0

    def skip(self, num_bytes: int) -> bool:
        """Advance by ``num_bytes`` in bounded memory; return False at the end of the file."""
        while num_bytes > 0 and self.fill(1):
            step = min(num_bytes, self.num_unread)
            self.advance(self.place + step)
            num_bytes -= step
        return num_bytes == 0

    def advance(self, place: int) -> None:
        """Advance to ``place``, and free the bytes before it if they are many."""
        self.place = place
        if place == len(self.block) or place > 2 * BLOCK_BYTES:
            self._passed_bytes, self.place = self.offset, 0
            self.block = self.block[place:]

    def close(self) -> None:
        """Close the file and free the memory."""
        self._source.close()
        self.block, self.place = b"", 0
