"""`Location`: the position of a sample in a file."""

from typing import NamedTuple


class Location(NamedTuple):
    """The position of a sample in a file. ``str`` returns ``path:row``.

    Attributes:
        path: The absolute path of the file, or its URL.
        row: The index of the sample in the file, from 0.
        start: The first byte of the sample in the file. None if the file is compressed, or stores columns.
        stop: The byte after the sample; None like ``start``.
    """

    path: str
    row: int
    start: int | None = None
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.row}"
