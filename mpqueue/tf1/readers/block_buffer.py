"""The part of a file that is in memory: read in blocks, looked at in place, dropped when passed."""

from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.tf1.readers.opening import BLOCK_BYTES, ByteSource


class BlockBuffer:
    """A window over a byte source that grows at its end and is cut off at its start.

    A record is cut out of one big ``bytes`` object by a slice, without a system call; only `fill` reads. A call that
    fails loses no byte, and may be tried again.

    Args:
        source: The source of the bytes; `close` closes it.

    Attributes:
        block: The bytes in memory; the unread ones begin at ``place``.
        place: Index in ``block`` of the first unread byte.
    """

    def __init__(self, source: ByteSource) -> None:
        keep_freed_memory()
        self._source = source
        self._passed_bytes = 0  # of the file, before block
        self.block, self.place = b"", 0

    @property
    def offset(self) -> int:
        """Offset in the (unpacked) file of the first unread byte."""
        return self._passed_bytes + self.place

    @property
    def num_unread(self) -> int:
        """Bytes in memory that are not passed yet."""
        return len(self.block) - self.place

    def fill(self, num_bytes: int, *, ahead_bytes: int = BLOCK_BYTES) -> bool:
        """Read until at least ``num_bytes`` unread bytes are in memory; return False if the file ends before.

        Args:
            num_bytes: Number of bytes that are needed.
            ahead_bytes: Read at least so many at once. A whole block saves calls for the bytes that come next; 0 keeps
                a big record that comes next from being copied out of a block.
        """
        missing = num_bytes - self.num_unread
        if missing <= 0:
            return True
        parts = [self.block[self.place :]] if self.num_unread else []
        try:
            while missing > 0 and (part := self._source.read(max(missing, ahead_bytes))):
                parts.append(part)
                missing -= len(part)
        finally:
            # Also when a read fails: what was read before it is kept, and the next call goes on behind that.
            self._passed_bytes, self.place = self.offset, 0
            self.block = b"".join(parts)
        return missing <= 0

    def take(self, num_bytes: int) -> bytes | None:
        """Return the next bytes and pass them; None, with nothing passed, if the file ends before."""
        if not self.fill(num_bytes, ahead_bytes=0):
            return None
        stop = self.place + num_bytes
        data = self.block[self.place : stop]  # the block itself where it holds nothing else
        self.advance(stop)
        return data

    def put_back(self, data: bytes) -> None:
        """Undo the takes that returned ``data``."""
        self._passed_bytes, self.block = self.offset - len(data), data + self.block[self.place :]
        self.place = 0

    def skip(self, num_bytes: int) -> bool:
        """Pass so many bytes in bounded memory; return False, at the end of the file, if it ends before."""
        while num_bytes > 0 and self.fill(1):
            step = min(num_bytes, self.num_unread)
            self.advance(self.place + step)
            num_bytes -= step
        return num_bytes == 0

    def advance(self, place: int) -> None:
        """Pass the bytes before ``place``, and free them if they are many."""
        self.place = place
        if place == len(self.block) or place > 2 * BLOCK_BYTES:
            self._passed_bytes, self.place = self.offset, 0
            self.block = self.block[place:]

    def close(self) -> None:
        """Close the file and free the memory."""
        self._source.close()
        self.block, self.place = b"", 0
