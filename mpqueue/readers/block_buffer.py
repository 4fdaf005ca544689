"""The part of a file that is in memory: read in blocks, looked at in place, thrown away when passed."""

from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.readers.opening import BLOCK_BYTES, ByteSource


class BlockBuffer:
    """A window over a byte source that grows at its end and is cut off at its start.

    Cutting records out of one big ``bytes`` object costs a slice each, without a system call, and `fill` is the only
    place that reads. Whatever fails, no byte is lost: the same call may be tried again.

    Args:
        source: Where the bytes come from; closed by `close`.

    Attributes:
        block: The bytes in memory; the unread ones begin at ``place``.
        place: Where in ``block`` the unread bytes begin.
    """

    def __init__(self, source: ByteSource) -> None:
        keep_freed_memory()
        self._source = source
        self._passed_bytes = 0  # of the file, before block
        self.block, self.place = b"", 0

    @property
    def offset(self) -> int:
        """Where in the (unpacked) file the unread bytes begin."""
        return self._passed_bytes + self.place

    @property
    def num_unread(self) -> int:
        """Bytes in memory that are not passed yet."""
        return len(self.block) - self.place

    def fill(self, num_bytes: int, *, ahead_bytes: int = BLOCK_BYTES) -> bool:
        """Have at least so many unread bytes in memory; False if the file ends before.

        Args:
            num_bytes: What is needed.
            ahead_bytes: What to ask the source for where less is missing. A block saves calls for what comes next; 0
                keeps a big record that comes next from being copied out of a block.
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
            self._passed_bytes, self.place = self.offset, 0
            self.block = b"".join(parts)
        return missing <= 0

    def take(self, num_bytes: int) -> bytes | None:
        """The next bytes, passed; None if the file ends before, and then nothing is passed."""
        if not self.fill(num_bytes, ahead_bytes=0):
            return None
        stop = self.place + num_bytes
        data = self.block[self.place : stop]  # the block itself where it holds nothing else
        self.advance(stop)
        return data

    def put_back(self, data: bytes) -> None:
        """Undo the takes that gave ``data``."""
        self._passed_bytes, self.block = self.offset - len(data), data + self.block[self.place :]
        self.place = 0

    def skip(self, num_bytes: int) -> bool:
        """Pass so many bytes, in bounded memory; False if the file ends before, and then it is at its end."""
        while num_bytes > 0 and self.fill(1):
            step = min(num_bytes, self.num_unread)
            self.advance(self.place + step)
            num_bytes -= step
        return num_bytes == 0

    def advance(self, place: int) -> None:
        """Pass what lies before ``place``, and free it where that is much."""
        self.place = place
        if place == len(self.block) or place > 2 * BLOCK_BYTES:
            self._passed_bytes, self.place = self.offset, 0
            self.block = self.block[place:]

    def close(self) -> None:
        """Let go of the file and of the memory."""
        self._source.close()
        self.block, self.place = b"", 0
