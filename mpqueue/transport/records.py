"""Declarations of the records of all protocols. Packing, checking and the fuzz tests follow from them.

A record has a fixed size. It may begin with a magic number, if foreign bytes could be mistaken for it. It has a kind if
there are several, and it may contain the number of bytes that follow it. Data that does not match the declaration
raises `ProtocolError`. Parsed data can be packed again without a change.

After a `ProtocolError`, the receiver ends the connection: the beginning of the next record is unknown. (The pipe of
queues, which has many writers, has its own marker for that; see its reader.)
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

Bytes = bytes | bytearray | memoryview


class ProtocolError(Exception):
    """Bytes or descriptors that no process of this version of mpqueue sends."""


def kinds_of(names: type) -> frozenset[int]:
    """Return the kinds that a class names; plain integers, because they are compared per batch."""
    return frozenset(kind for name, kind in vars(names).items() if name.isupper())


class RecordType:
    """The declaration of a record.

    Args:
        fields: Each as ``name:code``, separated by blanks; for the codes see `struct` (little-endian, not aligned).
            ``6Q`` is six integers, ``_:3x`` three unused bytes. Two names have a meaning: ``kind``, one byte, and
            ``nbytes``, the number of bytes that follow the record.
        magic: The first two bytes; None if it has no magic number. If ``magic:H`` is the first of the fields, the
            caller packs and compares it like all other values, which takes 50 ns less.
        kinds: The valid kinds; empty for any.
        most: The largest values of fields, by name.

    Attributes:
        fields: Pairs of a name and a code, without unused bytes.
        magic, kinds, most: The arguments.
        size: Size in bytes.
        pack, unpack, unpack_from, iter_unpack: The methods of `struct.Struct` for the fields, without checks.
    """

    def __init__(
        self,
        fields: str,
        *,
        magic: int | None = None,
        kinds: Iterable[int] = (),
        most: Mapping[str, int] | None = None,
    ) -> None:
        pairs = [(name, code) for name, _, code in (field.partition(":") for field in fields.split())]
        self.fields = [(name, code) for name, code in pairs if name != "_"]
        self.kinds, self.most = frozenset(kinds), most or {}
        self.magic, codes = magic, "".join(code for _, code in pairs)
        is_hidden = magic is not None and pairs[0][0] != "magic"
        whole = struct.Struct(f"<H{codes}" if is_hidden else f"<{codes}")
        read = struct.Struct(f"<2x{codes}") if is_hidden else whole
        self.size = whole.size
        # The methods of `struct.Struct` themselves, without a wrapper, because they are called per batch.
        self.pack = partial(whole.pack, magic) if is_hidden else whole.pack
        self.unpack, self.unpack_from, self.iter_unpack = read.unpack, read.unpack_from, read.iter_unpack
        # The valid values of certain bytes. They are checked by column, so that many records take as long as one.
        self._columns = [] if magic is None else [(at, {byte}) for at, byte in enumerate(magic.to_bytes(2, "little"))]
        names = [name for name, _ in pairs]
        if self.kinds:
            before = "".join(code for _, code in pairs[: names.index("kind")])
            self._columns.append((struct.calcsize(f"<{before}") + 2 * is_hidden, set(self.kinds)))
        meant = [name for name, _ in self.fields]
        self._at_nbytes = meant.index("nbytes") if "nbytes" in meant else -1
        self._most = [(meant.index(name), value) for name, value in self.most.items()]

    def parse(self, data: Bytes) -> tuple[Any, ...]:
        """Return the fields of one record.

        Raises:
            ProtocolError: The data is not a valid record.
        """
        if len(data) != self.size:
            raise ProtocolError(f"expected a message of {self.size} bytes, got {len(data)}")
        for at, values in self._columns:
            if data[at] not in values:
                raise _foreign(data)
        record = self.unpack(data)
        for position, most in self._most:
            if record[position] > most:
                raise _foreign(data)
        return record

    def parse_all(self, data: Bytes) -> Iterator[tuple[Any, ...]]:
        """Return the fields of all records of a message, in order.

        Raises:
            ProtocolError: The message contains other data, or is empty.
        """
        if not data or len(data) % self.size:
            raise ProtocolError(f"expected a message of a multiple of {self.size} bytes, got {len(data)}")
        for at, values in self._columns:
            if not values.issuperset(data[at :: self.size]):
                raise _foreign(data)
        return self.iter_unpack(data)

    def parse_with_body(self, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        """Return the fields of a record and the bytes that follow it, from a complete message.

        Raises:
            ProtocolError: The record is invalid, or is followed by another number of bytes.
        """
        record, body = self.parse(data[: self.size]), data[self.size :]
        if record[self._at_nbytes] != len(body):
            raise _foreign(data)
        return record, body


def _foreign(data: Bytes) -> ProtocolError:
    return ProtocolError(f"a message of {len(data)} bytes that begins with {bytes(data[:4]).hex()} is not a record")
