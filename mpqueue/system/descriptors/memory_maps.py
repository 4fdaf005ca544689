"""The memory maps of this process, as the kernel lists them.

/proc/self/maps has one line for each map: addresses, permissions, and for a file its offset, inode and path.
"""

from typing import NamedTuple

_MAPS = "/proc/self/maps"


class Area(NamedTuple):
    """A line of /proc/self/maps, or several lines of one map."""

    first: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str

    @property
    def is_shared(self) -> bool:
        """True if other processes can map the same memory, and see writes of this process."""
        return self.permissions[3] == "s"

    @property
    def is_writable(self) -> bool:
        """True if this process can write to it."""
        return self.permissions[1] == "w"


def read_areas() -> list[Area]:
    """Return the maps of this process in ascending order; an empty list if the system has no /proc."""
    try:
        # Paths are bytes in any encoding. They may contain a carriage return, which Python would take for a line break.
        with open(_MAPS, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return [area_of(line) for line in file]
    except OSError:
        return []


def area_of(line: str) -> Area:
    """Return the area that a line describes."""
    # At most five splits, because a path may contain blanks. The kernel writes a line break in it as \012.
    position, permissions, offset, _device, inode, *path = line.rstrip("\n").split(maxsplit=5)
    first, _, end = position.partition("-")
    name = path[0].replace("\\012", "\n") if path else ""
    return Area(int(first, 16), int(end, 16), permissions, int(offset, 16), int(inode), name)
