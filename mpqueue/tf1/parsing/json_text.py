"""The tokens of JSON, as protobuf's C++ parser accepts them.

It is more permissive than the standard: single quotes, names without quotes, a comma after the last member, and line
breaks in strings are allowed. Numbers, literals and escapes follow the standard.
"""

import re
from collections.abc import Iterator

_BLANK = re.compile(r"[ \t\n\r]*")
# Possessive quantifiers: an unclosed string is scanned once, without backtracking.
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"|' r"'((?:[^'\\]++|\\.)*+)'", re.DOTALL)
_WORD = re.compile(r"(?!(?:null|true|false)\b)[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.+-])")
# A high surrogate and the following escape are one character: \ud83d\ude00.
_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([0-9a-fA-F]{4})|\\u([0-9a-fA-F]{4})|\\(.)",
    re.DOTALL,
)
_ESCAPED = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_DEPTH = 100


class BadJson(ValueError):
    """A string that is not the expected JSON. Args: the reason, with the position."""


class JsonText:
    """A JSON string and a position in it. Each method consumes the token that it names, or raises `BadJson`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._depth = 0

    def bad(self, reason: str) -> BadJson:
        """Return an error at the current position."""
        return BadJson(f"{reason}, at character {self._place}")

    def peek(self) -> str:
        """Return the next non-blank character without consuming it; "" at the end."""
        self._place = _BLANK.match(self._text, self._place).end()  # type: ignore[union-attr]  # matches anywhere
        return self._text[self._place : self._place + 1]

    def end(self) -> None:
        """Check that the end of the string is reached."""
        if self.peek():
            raise self.bad("has text after the end of its object")

    def is_null(self) -> bool:
        """Consume ``null`` if it is next, and return whether it was."""
        is_next = self.peek() == "n" and self._text.startswith("null", self._place)
        self._place += 4 * is_next
        return is_next

    def members(self) -> Iterator[str]:
        """Iterate over the names of an object's members. The caller must consume each value."""
        self._open("{")
        while self.peek() != "}":
            name = self._name()
            self._take(":")
            yield name
            if self.peek() != "}":
                self._take(",")
        self._close()

    def items(self) -> Iterator[None]:
        """Iterate once per item of an array. The caller must consume each item."""
        self._open("[")
        while self.peek() != "]":
            yield
            if self.peek() != "]":
                self._take(",")
        self._close()

    def string(self) -> str:
        """Consume a string and return it unescaped."""
        self.peek()
        match = _STRING.match(self._text, self._place)
        if not match:
            raise self.bad("has no string where a string is expected")
        self._place = match.end()
        return _ESCAPE.sub(self._unescaped, match[1] if match[1] is not None else match[2])

    def number(self) -> str:
        """Consume a number and return its text."""
        self.peek()
        match = _NUMBER.match(self._text, self._place)
        if not match:
            raise self.bad("has no number where a number is expected")
        self._place = match.end()
        return match[0]

    def _name(self) -> str:
        if self.peek() in ('"', "'"):
            return self.string()
        match = _WORD.match(self._text, self._place)
        if not match:
            raise self.bad("has no name where a name is expected")
        self._place = match.end()
        return match[0]

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise self.bad(f"has {self.peek()!r} where {character!r} is expected")
        self._place += 1

    def _open(self, character: str) -> None:
        self._take(character)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.bad(f"is nested more than {_MAX_DEPTH} levels deep")

    def _close(self) -> None:
        self._place += 1
        self._depth -= 1

    def _unescaped(self, match: re.Match[str]) -> str:
        if letter := match[4]:
            if letter not in _ESCAPED:
                raise self.bad(f"has an invalid escape \\{letter} before here")
            return _ESCAPED[letter]
        # The two surrogates of one character are joined. A single surrogate is an error.
        try:
            halves = b"".join(int(half, 16).to_bytes(2, "big") for half in match.groups() if half)
            return halves.decode("utf-16-be")
        except ValueError:
            raise self.bad("has an escape \\u before here that is not a character") from None
