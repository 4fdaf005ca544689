"""The records of the protocols: each is declared once, and packed, checked, and damaged by the tests after that.

A record has one size. It may begin with a magic number, where its bytes could be a stranger's; it has a kind where
there are several; and it may say how many bytes follow it. What does not fit its declaration is foreign, and refused
here with one error: `ProtocolError`. What is not refused says the same again when it is packed.

Who gets a `ProtocolError` ends the connection, or gives up the pipe: after one foreign byte nobody knows where the next
record begins. (The pipe of queues, into which all write, has a mark of its own for that: see its reader.)
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

Bytes = bytes | bytearray | memoryview


class ProtocolError(Exception):
    """Bytes, or descriptors, that no process of this version of mpqueue sends."""


def kinds_of(names: type) -> frozenset[int]:
    """Return the kinds that a class names; they are plain ints, because they are compared on the ways of batches."""
    return frozenset(number for name, number in vars(names).items() if name.isupper())


class RecordType:
    """The declaration of a record.

    Args:
        fields: Each as ``name:code``, with blanks between; for the codes see `struct` (little-endian, not aligned).
            ``6Q`` is six numbers, ``_:3x`` three bytes without a meaning. Two names have one here: ``kind``, which is
            one byte, and ``nbytes``, the number of bytes that follow the record.
        magic: Two bytes with which it begins; None: it has none. Where ``magic:H`` is the first of the fields, it is a
            value as all others, to be passed and compared by whoever packs and unpacks: that takes 50 ns less.
        kinds: What kinds there are; empty: any.
        most: The largest values of fields, by name.

    Attributes:
        fields: Pairs of a name and a code, without the bytes that have no meaning.
        magic, kinds, most: As given.
        size: In bytes.
        pack, unpack, unpack_from, iter_unpack: Those of `struct.Struct` for the fields, without any check.
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
        # Those of C themselves, because they are called for each batch.
        self.pack = partial(whole.pack, magic) if is_hidden else whole.pack
        self.unpack, self.unpack_from, self.iter_unpack = read.unpack, read.unpack_from, read.iter_unpack
        # Which bytes have to be what. Looked at by column, so that many records take as long as one.
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
            ProtocolError: It is none.
        """
        if len(data) != self.size:
            raise ProtocolError(f"a message of {len(data)} bytes, of {self.size} expected")
        for at, values in self._columns:
            if data[at] not in values:
                raise _foreign(data)
        found = self.unpack(data)
        for place, most in self._most:
            if found[place] > most:
                raise _foreign(data)
        return found

    def parse_all(self, data: Bytes) -> Iterator[tuple[Any, ...]]:
        """Return the fields of all records of a message, in their order.

        Raises:
            ProtocolError: It holds something else, or nothing.
        """
        if not data or len(data) % self.size:
            raise ProtocolError(f"a message of {len(data)} bytes, of a multiple of {self.size} expected")
        for at, values in self._columns:
            if not values.issuperset(data[at :: self.size]):
                raise _foreign(data)
        return self.iter_unpack(data)

    def parse_with_body(self, data: bytes) -> tuple[tuple[Any, ...], bytes]:
        """Return the fields of a record and the bytes that follow it, of a message that is there wholly.

        Raises:
            ProtocolError: It is none, or another number of bytes follows.
        """
        found, body = self.parse(data[: self.size]), data[self.size :]
        if found[self._at_nbytes] != len(body):
            raise _foreign(data)
        return found, body


def _foreign(data: Bytes) -> ProtocolError:
    return ProtocolError(f"a message of {len(data)} bytes that begins with {bytes(data[:4]).hex()}, which is no record")
