"""The tokens of JSON, as protobuf's C++ parser takes them.

It is more generous than the standard: quotes may be single, names may be bare words, a comma may follow the last
member, and a line break may stand in a string. Numbers, literals and escapes are as the standard has them.
"""

import re
from collections.abc import Iterator

_BLANK = re.compile(r"[ \t\n\r]*")
# Quantifiers that never give back what they took: an open string costs one look at each character.
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"|' r"'((?:[^'\\]++|\\.)*+)'", re.DOTALL)
_WORD = re.compile(r"(?!(?:null|true|false)\b)[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.+-])")
# A high surrogate and what follows it are one character: \ud83d\ude00.
_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([0-9a-fA-F]{4})|\\u([0-9a-fA-F]{4})|\\(.)",
    re.DOTALL,
)
_ESCAPED = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_DEPTH = 100


class BadJson(ValueError):
    """A text that is not the JSON that is expected. Args: the reason, with the place."""


class JsonText:
    """A text and a place in it. Each method consumes the token that it names, or raises `BadJson`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._depth = 0

    def bad(self, reason: str) -> BadJson:
        """Make an error at the present place."""
        return BadJson(f"{reason}, at character {self._place}")

    def peek(self) -> str:
        """Return the next character that is no blank without consuming it; "" at the end."""
        self._place = _BLANK.match(self._text, self._place).end()  # type: ignore[union-attr]  # matches anywhere
        return self._text[self._place : self._place + 1]

    def end(self) -> None:
        """Check that the text has ended."""
        if self.peek():
            raise self.bad("has text after the end of its object")

    def is_null(self) -> bool:
        """Consume ``null`` if it is next, and tell if it was."""
        found = self.peek() == "n" and self._text.startswith("null", self._place)
        self._place += 4 * found
        return found

    def members(self) -> Iterator[str]:
        """Iterate over the names of an object's members; the caller consumes each value."""
        self._open("{")
        while self.peek() != "}":
            name = self._name()
            self._take(":")
            yield name
            if self.peek() != "}":
                self._take(",")
        self._close()

    def items(self) -> Iterator[None]:
        """Iterate once per item of an array; the caller consumes each item."""
        self._open("[")
        while self.peek() != "]":
            yield
            if self.peek() != "]":
                self._take(",")
        self._close()

    def string(self) -> str:
        """Consume a string and return it unescaped."""
        self.peek()
        found = _STRING.match(self._text, self._place)
        if not found:
            raise self.bad("has no string where one is expected")
        self._place = found.end()
        return _ESCAPE.sub(self._unescaped, found[1] if found[1] is not None else found[2])

    def number(self) -> str:
        """Consume a number and return its text."""
        self.peek()
        found = _NUMBER.match(self._text, self._place)
        if not found:
            raise self.bad("has no number where one is expected")
        self._place = found.end()
        return found[0]

    def _name(self) -> str:
        if self.peek() in ('"', "'"):
            return self.string()
        found = _WORD.match(self._text, self._place)
        if not found:
            raise self.bad("has no name where one is expected")
        self._place = found.end()
        return found[0]

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise self.bad(f"has {self.peek()!r} where {character!r} is expected")
        self._place += 1

    def _open(self, character: str) -> None:
        self._take(character)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.bad(f"is nested more than {_MAX_DEPTH} deep")

    def _close(self) -> None:
        self._place += 1
        self._depth -= 1

    def _unescaped(self, found: re.Match[str]) -> str:
        if letter := found[4]:
            if letter not in _ESCAPED:
                raise self.bad(f"has the escape \\{letter} before here, which JSON does not know")
            return _ESCAPED[letter]
        try:  # two halves of one character are joined; a half alone cannot be
            halves = b"".join(int(half, 16).to_bytes(2, "big") for half in found.groups() if half)
            return halves.decode("utf-16-be")
        except ValueError:
            raise self.bad("has an escape \\u before here that is no character") from None
