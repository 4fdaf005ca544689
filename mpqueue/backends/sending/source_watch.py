"""Detects changes of a source between epochs without pickling all of it.

Each ``for`` loop compares the source with the workers' copy, so that workers never use old data. Pickling a list of
10^7 strings for this takes 2.4 s. A `SourceWatch` excludes two kinds of parts from that pickle:

    constant parts     an object with the attribute ``constant = True``: the user promises that it does not change
    long lists         a list or tuple of at least `MIN_LENGTH` elements of immutable types: a comparison with a shallow
                       copy by ``==`` finds every change in about 10 ns per element

Everything else, such as a list of dicts, is pickled and compared byte by byte. A part is identified by its identity: if
another object replaces it, the whole source is pickled.
"""

from operator import is_
from typing import Any

import numpy as np

from mpqueue.backends.sending.source_send import SourceImage, UnpicklableSource, take_image
from mpqueue.system.user_code.object_walk import contents
from mpqueue.system.user_code.shared_state import constancy

MIN_LENGTH = 1 << 10  # a shorter list is pickled in some 100 µs
_STRINGS = frozenset((str, bytes))
_IMMUTABLE = _STRINGS | frozenset((int, float, complex, bool, type(None)))


class SourceWatch:
    """The latest image of a payload, and the state to detect later changes of the payload.

    Args:
        payload: The source, and everything sent with it.
        is_local: The receivers are on this machine; see `take_image`.
    """

    def __init__(self, payload: Any, *, is_local: bool = True) -> None:
        self.payload, self._is_local = payload, is_local
        self._image: SourceImage | None = None
        self._parts: list[_Part] = []
        self._rest: bytes | None = None  # the pickle without the parts; if None, the whole payload is compared
        self._compared: list[int] = []  # indices of the buffers outside the parts

    def take_image(self) -> SourceImage:
        """Return the image of the present payload.

        Raises:
            UnpicklableSource: The payload cannot be pickled.
        """
        if self._image is not None and self._rest is not None and all(part.is_same() for part in self._parts):
            rest = self._take_rest()
            if rest is not None and rest.data == self._rest:
                return self._renewed(self._image, rest)
        # Before the image: if another thread changes the source between the two, the next call detects a change.
        self._image, self._rest = None, None
        self._parts = [_Part(found.value) for found in contents(self.payload, _can_be_cut)]
        rest = self._take_rest() if self._parts else None
        self._image = take_image(self.payload, is_local=self._is_local)
        if rest is not None:
            self._rest, self._compared = rest.data, _indices_of(rest.buffers, self._image.buffers)
        return self._image

    def _renewed(self, image: SourceImage, rest: SourceImage) -> SourceImage:
        """Return an image with the present large arrays; its receiver compares them, except constant ones."""
        buffers, digests = list(image.buffers), list(image.digests)
        for index, buffer in zip(self._compared, rest.buffers, strict=True):
            buffers[index] = buffer
        for index, digest in zip(self._compared, rest.digests, strict=False):  # no digests on one machine
            digests[index] = digest
        constant = frozenset(range(len(buffers))).difference(self._compared)
        return SourceImage(image.data, buffers, digests, constant)

    def _take_rest(self) -> SourceImage | None:
        """Return the image without the excluded parts, or None if the payload can no longer be pickled."""
        try:
            return take_image(self.payload, is_local=self._is_local, without=[part.value for part in self._parts])
        except UnpicklableSource:
            return None  # the full image raises an error that names the attribute


class _Part:
    """A part of a payload that is not pickled again."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self._copy: Any = None if constancy(value) else value[:]
        self._has_numbers = self._copy is not None and not _STRINGS.issuperset(map(type, value))

    def is_same(self) -> bool:
        """Return whether the part is unchanged."""
        if self._copy is None:
            return constancy(self.value) is True
        if self._has_numbers:  # 1, 1.0 and True are equal, but a worker may return a different sample for each
            return len(self.value) == len(self._copy) and all(map(is_, self.value, self._copy))
        return bool(self.value == self._copy)


def _indices_of(some: list[memoryview], buffers: list[memoryview]) -> list[int]:
    """Return the indices of some buffers among all, found by address."""
    indices: dict[tuple[int, int], list[int]] = {}
    for index, buffer in enumerate(buffers):
        indices.setdefault(_address(buffer), []).append(index)
    return [indices[_address(buffer)].pop(0) for buffer in some]


def _address(buffer: memoryview) -> tuple[int, int]:
    return np.frombuffer(buffer, np.uint8).ctypes.data, buffer.nbytes


def _can_be_cut(value: Any) -> bool:
    if type(value) in {list, tuple}:
        return len(value) >= MIN_LENGTH and _IMMUTABLE.issuperset(map(type, value))
    return constancy(value) is True
