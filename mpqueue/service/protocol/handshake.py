"""The handshake: one JSON object in each direction before any record, typed and of bounded size.

    consumer                                   server
    --------                                   ------
    Hello    ------------------------------>   the rank; when to join; where an earlier connection was
             <------------------------------   Welcome    the terms, with the descriptor of the ring
                                         or:   Refusal    the reason and a remedy; then the connection ends

The server parses the `Hello` before the peer has any rights, so a decoder accepts only the fields below. Each field has
a check, and a value that fails it raises `ProtocolError`. Unknown keys are ignored, so that later versions can add
some. A peer with another protocol version is rejected with a message, and rejections can be parsed across versions.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from mpqueue.errors import ServiceError
from mpqueue.service.protocol.records import MAX_HANDSHAKE
from mpqueue.transport.records import ProtocolError
from mpqueue.version import __version__

PROTOCOL = 7
MAX_TAKEN = 4096  # positions in one `Resume`

_MAX_NUMBER = (1 << 63) - 1
_MAX_TEXT = 256  # characters
_MAX_REASON = 4000  # characters, of up to 12 bytes of JSON each

Join = Literal["next", "now"]
Check: TypeAlias = Callable[[Any], Any]


def _number(value: Any, least: int = 0) -> int:
    # `type` and not `isinstance`: JSON's `true` is a `bool`, which is a subclass of `int`.
    if type(value) is not int or not least <= value <= _MAX_NUMBER:
        raise ProtocolError(f"expected an integer from {least} to 2**63 - 1, got {_shown(value)}")
    return value


def _text(value: Any, most: int = _MAX_TEXT) -> str:
    # Bounded, because the strings are logged and shown to users. A log or a terminal cannot show unpaired surrogates.
    if type(value) is not str or len(value) > most or re.search("[\ud800-\udfff]", value):
        raise ProtocolError(f"expected a string of at most {most} characters, got {_shown(value)}")
    return value


def _numbers(value: Any) -> tuple[int, ...]:
    if type(value) is not list or len(value) > MAX_TAKEN:
        raise ProtocolError(f"expected a list of at most {MAX_TAKEN} positions, got {_shown(value)}")
    return tuple(map(_number, value))


def _one_of(literal: Any) -> Check:
    choices = get_args(literal)

    def check(value: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise ProtocolError(f"expected one of {', '.join(map(repr, choices))}, got {_shown(value)}")
        return value

    return check


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _shown(value: Any) -> str:
    # Error messages appear in logs of the server and in refusals, so an arbitrary value must not make them long.
    if isinstance(value, list | dict):  # they may be nested more deeply than `repr` supports
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a message.

    Raises:
        ProtocolError: The message is too long, or is not a JSON object.
    """
    # Limit the size before parsing: a JSON parser needs many times the memory of its input.
    if len(data) > MAX_HANDSHAKE:
        raise ProtocolError(f"expected a handshake of at most {MAX_HANDSHAKE} bytes, got {len(data)}")
    try:
        message = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8 or JSON; thousands of digits; deeply nested
        raise ProtocolError(f"expected a handshake in JSON, got {type(error).__name__}") from error
    if type(message) is not dict:
        raise ProtocolError(f"expected a handshake that is a JSON object, got {_shown(message)}")
    return message


def _check_protocol(message: Mapping[str, Any]) -> None:
    protocol, version = (check(_of(message, key)) for key, check in (("protocol", _number), ("version", _text)))
    # Checked before the other fields, which another version may have changed: the user should read about versions, not
    # fields.
    if protocol != PROTOCOL:
        # Not a `ProtocolError`: the peer is a valid mpqueue process, and its user needs a remedy.
        raise ServiceError(
            f"expected protocol {PROTOCOL} (mpqueue {__version__}), got protocol {protocol} (mpqueue {version}): "
            "install the same version of mpqueue on both ends"
        )


def _of(message: Mapping[str, Any], key: str) -> Any:
    if key not in message:
        raise ProtocolError(f"expected a handshake with {key!r}, got none")
    return message[key]


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A dataclass with a check in the annotation of each field."""

    @classmethod
    def of(cls, message: Any) -> Self:
        """Return an instance with the checked values of a JSON object.

        Raises:
            ProtocolError: A value is missing, has another type, or is out of bounds.
        """
        if type(message) is not dict:
            raise ProtocolError(f"expected a JSON object, got {_shown(message)}")
        values = {}
        for field in fields(cls):
            # Only declared fields are read: an unknown key can neither set an attribute nor fail the handshake.
            _type, check = get_args(field.type)
            try:
                values[field.name] = check(_of(message, field.name))
            except ProtocolError as error:
                # Name the field: "expected an integer" alone does not help to find the cause.
                raise ProtocolError(f"{cls.__name__}.{field.name}: {error}") from None
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class _Handshake(_Checked):
    """A message of the handshake."""

    def encode(self) -> bytes:
        """Return the encoded message."""
        message = {"protocol": PROTOCOL, "version": __version__}
        message |= {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(message, default=asdict, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the decoded message.

        Raises:
            ProtocolError: The message is invalid.
            ServiceError: The message has another protocol version; the text is suitable for a refusal.
        """
        message = _parse(data)
        _check_protocol(message)
        return cls.of(message)


@dataclass(frozen=True, kw_only=True)
class Resume(_Checked):
    """The state of a consumer when its server crashed.

    Attributes:
        job: The stream, as in that server's `Welcome`.
        epoch: The consumer's epoch.
        taken: Positions of its latest taken batches of that epoch, which the server may not have journaled.
        count: Total number of batches that it has taken of that epoch.
        before: Positions of its latest taken batches of the previous epoch. The server may have crashed in that epoch.
    """

    job: Annotated[str, _text]
    epoch: Annotated[int, _number]
    taken: Annotated[tuple[int, ...], _numbers]
    count: Annotated[int, _number]
    before: Annotated[tuple[int, ...], _numbers] = ()

    def taken_of(self, epoch: int) -> tuple[int, ...]:
        """Return the taken positions of the server's epoch: this one or the previous one."""
        return {self.epoch: self.taken, self.epoch - 1: self.before}.get(epoch, ())


@dataclass(frozen=True, kw_only=True)
class Hello(_Handshake):
    """The first message of a consumer.

    Attributes:
        rank: Rank of the consumer; None for a server without ranks.
        join: When the consumer starts.
        resume: The state of an earlier connection; None if absent.
    """

    rank: Annotated[int | None, _or_none(_number)] = None
    join: Annotated[Join, _one_of(Join)] = "next"
    resume: Annotated[Resume | None, _or_none(Resume.of)] = None


@dataclass(frozen=True, kw_only=True)
class Welcome(_Handshake):
    """The answer of a server that accepts a consumer.

    Attributes:
        name: Name of the server.
        mode: How batches are distributed.
        world: Number of consumers of the group; None for any number.
        job: Hash of the stream's identity; two servers with the same hash yield the same batches.
        length: Number of batches per epoch for this consumer; None if unknown or endless.
        epoch: The epoch of its next loop.
        segment_bytes: Size of the ring in bytes.
        stride: Distance between two slots of the ring in bytes.
        pid: Process id of the server.
    """

    name: Annotated[str, _text]
    mode: Annotated[str, _text]
    world: Annotated[int | None, _or_none(partial(_number, least=1))]
    job: Annotated[str, _text]
    length: Annotated[int | None, _or_none(_number)]
    epoch: Annotated[int, _number]
    segment_bytes: Annotated[int, _number]
    stride: Annotated[int, _number]
    pid: Annotated[int, _number]


@dataclass(frozen=True, kw_only=True)
class Refusal(_Handshake):
    """The answer of a server that rejects a consumer.

    Attributes:
        refused: The reason and a remedy; a long one is truncated.
    """

    refused: Annotated[str, partial(_text, most=MAX_HANDSHAKE)]

    def encode(self) -> bytes:
        """Return the encoded message."""
        # Truncate and escape: a refusal that is too long or cannot be encoded would itself be an invalid message, and
        # the consumer would not learn the reason.
        readable = self.refused[:_MAX_REASON].encode("utf-8", "backslashreplace").decode()
        return super(Refusal, replace(self, refused=readable)).encode()


def decode_answer(data: bytes) -> Welcome | Refusal:
    """Return the decoded answer of a server.

    Raises:
        ProtocolError: The answer is invalid.
        ServiceError: It is a welcome with a different protocol version.
    """
    message = _parse(data)
    # Check this before the version: a refusal must be readable whatever version it is from, because the version may be
    # its reason.
    if "refused" in message:
        return Refusal.of(message)
    _check_protocol(message)
    return Welcome.of(message)
