"""The handshake: one JSON object each way, before any record, typed and of bounded size.

    consumer                                   server
    --------                                   ------
    Hello    ------------------------------>   the purpose; the rank; when to join; where an earlier connection was
             <------------------------------   Welcome    what is served, with the descriptor of the ring
                                         or:   Refusal    why not, and what to do; the connection ends

The server reads it before it gives anything away, so a decoder accepts nothing but the fields below: each has a check,
and what fails one is a `ProtocolError`. Unknown keys are ignored, so that a later version can say more. What speaks
another protocol is refused with words on either side, and a refusal is understood whatever protocol it comes from.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from mpqueue.errors import ServiceError
from mpqueue.service.records import MAX_HANDSHAKE
from mpqueue.transport.records import ProtocolError
from mpqueue.version import __version__

PROTOCOL = 4
# By name: the root package imports all others for type checkers, so that an import of it would be a circle.
MAX_TAKEN = 4096  # positions in one `Resume`

_MAX_NUMBER = (1 << 63) - 1
_MAX_TEXT = 256  # characters
_MAX_REASON = 4000  # of which each may take 12 bytes of JSON

Purpose = Literal["batches", "queues"]
Join = Literal["next", "now", "replay"]
ModeName = Literal["split", "broadcast"]
Check: TypeAlias = Callable[[Any], Any]


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= _MAX_NUMBER:
        raise ProtocolError(f"got {_shown(value)}, expected an integer from {least} to 2**63 - 1")
    return value


def _positive(value: Any) -> int:
    return _number(value, 1)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT or not _is_text(value):
        raise ProtocolError(f"got {_shown(value)}, expected a text of at most {_MAX_TEXT} characters")
    return value


def _reason(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_HANDSHAKE or not _is_text(value):
        raise ProtocolError(f"got {_shown(value)}, expected a text")
    return value


def _is_text(value: str) -> bool:
    """Return False for halves of surrogate pairs, which no log and no terminal can write."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _token(value: Any) -> str:
    if not re.fullmatch("(?:[0-9a-f]{2})*", _text(value), re.ASCII):
        raise ProtocolError(f"got {_shown(value)}, expected hexadecimal digits")
    return str(value)


def _numbers(value: Any) -> tuple[int, ...]:
    if type(value) is not list or len(value) > MAX_TAKEN:
        raise ProtocolError(f"got {_shown(value)}, expected a list of at most {MAX_TAKEN} positions")
    return tuple(map(_number, value))


def _one_of(literal: Any) -> Check:
    choices = get_args(literal)

    def check(value: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise ProtocolError(f"got {_shown(value)}, expected one of {', '.join(map(repr, choices))}")
        return value

    return check


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):  # whose items may be nested more deeply than `repr` goes
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _parse(data: bytes) -> dict[str, Any]:
    """Return the object of a message.

    Raises:
        ProtocolError: It is too long, or holds no JSON object.
    """
    if len(data) > MAX_HANDSHAKE:
        raise ProtocolError(f"a handshake of {len(data)} bytes, expected at most {MAX_HANDSHAKE}")
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8; no JSON; a number of thousands of digits; nested deeply
        raise ProtocolError(f"a handshake that is no JSON: {type(error).__name__}") from error
    if type(found) is not dict:
        raise ProtocolError(f"a handshake that is {_shown(found)}, expected a JSON object")
    return found


def _check_protocol(found: Mapping[str, Any]) -> None:
    protocol, version = (check(_of(found, key)) for key, check in (("protocol", _number), ("version", _text)))
    if protocol != PROTOCOL:
        raise ServiceError(
            f"the other end speaks protocol {protocol} (mpqueue {version}), this one {PROTOCOL} "
            f"(mpqueue {__version__}): install one version of mpqueue for both"
        )


def _of(found: Mapping[str, Any], key: str) -> Any:
    if key not in found:
        raise ProtocolError(f"a handshake without {key!r}")
    return found[key]


class _Checked:
    """A dataclass whose fields are annotated with their checks."""

    @classmethod
    def of(cls, found: Any) -> Self:
        """Return the values of a JSON object, checked.

        Raises:
            ProtocolError: One is missing, or of another type, or out of its bounds.
        """
        if type(found) is not dict:
            raise ProtocolError(f"got {_shown(found)}, expected an object")
        values = {}
        for field in fields(cls):  # type: ignore[arg-type]
            _type, check = get_args(field.type)
            try:
                values[field.name] = check(_of(found, field.name))
            except ProtocolError as error:
                raise ProtocolError(f"{cls.__name__}.{field.name}: {error}") from None
        return cls(**values)


class _Handshake(_Checked):
    """A message of the handshake."""

    def encode(self) -> bytes:
        """Return its bytes."""
        found = {"protocol": PROTOCOL, "version": __version__}
        found |= {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return json.dumps(found, default=asdict, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what a message says.

        Raises:
            ProtocolError: It says nothing.
            ServiceError: It is of another protocol; the text is fit for a refusal.
        """
        found = _parse(data)
        _check_protocol(found)
        return cls.of(found)


@dataclass(frozen=True, kw_only=True)
class Resume(_Checked):
    """The place of a consumer when its server died.

    Attributes:
        job: Of the stream, as that server's `Welcome` said.
        epoch: The one in which it was.
        taken: Positions of the latest batches that it has taken of that epoch, of which the server may not know.
        count: Batches that it has taken of that epoch, in all.
        before: Positions of the latest batches that it has taken of the epoch before that one, in which the server may
            still have been.
    """

    job: Annotated[str, _text]
    epoch: Annotated[int, _number]
    taken: Annotated[tuple[int, ...], _numbers]
    count: Annotated[int, _number]
    before: Annotated[tuple[int, ...], _numbers] = ()

    def taken_of(self, epoch: int) -> tuple[int, ...]:
        """Return what was taken of the epoch in which a server is: this one, or the one before."""
        return {self.epoch: self.taken, self.epoch - 1: self.before}.get(epoch, ())


@dataclass(frozen=True, kw_only=True)
class Hello(_Handshake):
    """The first message of a consumer.

    Attributes:
        purpose: "batches", or "queues" for an address of the hub of queues and nothing else.
        rank: Its number in the group, None: the server finds one.
        join: When it begins.
        resume: Where an earlier connection was, None: there was none.
    """

    purpose: Annotated[Purpose, _one_of(Purpose)] = "batches"
    rank: Annotated[int | None, _or_none(_number)] = None
    join: Annotated[Join, _one_of(Join)] = "next"
    resume: Annotated[Resume | None, _or_none(Resume.of)] = None


@dataclass(frozen=True, kw_only=True)
class Welcome(_Handshake):
    """The answer of a server to a consumer that it takes.

    Attributes:
        name: Of the server.
        mode: Who gets which batch; None: it serves queues only.
        world: Consumers in the group, None: any number.
        job: A hash of the stream's identity; two servers of one job give the same batches.
        length: Batches per epoch for this consumer, None: unknown or endless.
        epoch: The one that its next loop is.
        window: Batches offered ahead, at most.
        segment_bytes: Size of the ring.
        stride: Bytes from one slot of the ring to the next.
        uid: Of the server.
        pid: Of the server.
        queues: The path at which the hub of queues listens, None: there is none.
        queues_token: The token of its address, in hexadecimal digits.
    """

    name: Annotated[str, _text]
    mode: Annotated[ModeName | None, _or_none(_one_of(ModeName))]
    world: Annotated[int | None, _or_none(_positive)]
    job: Annotated[str, _text]
    length: Annotated[int | None, _or_none(_number)]
    epoch: Annotated[int, _number]
    window: Annotated[int, _number]
    segment_bytes: Annotated[int, _number]
    stride: Annotated[int, _number]
    uid: Annotated[int, _number]
    pid: Annotated[int, _number]
    queues: Annotated[str | None, _or_none(_text)]
    queues_token: Annotated[str | None, _or_none(_token)] = None


@dataclass(frozen=True, kw_only=True)
class Refusal(_Handshake):
    """The answer of a server to a consumer that it does not take.

    Attributes:
        refused: Why not, and what to do; a longer one is cut off.
    """

    refused: Annotated[str, _reason]

    def encode(self) -> bytes:
        """Return its bytes."""
        readable = self.refused[:_MAX_REASON].encode("utf-8", "backslashreplace").decode()
        return super(Refusal, replace(self, refused=readable)).encode()


def decode_answer(data: bytes) -> Welcome | Refusal:
    """Return what a server has answered.

    Raises:
        ProtocolError: It says nothing.
        ServiceError: It is a welcome of another protocol.
    """
    found = _parse(data)
    if "refused" in found:
        return Refusal.of(found)
    _check_protocol(found)
    return Welcome.of(found)
