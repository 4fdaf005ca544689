"""The handshake: valid messages are decoded unchanged, and others raise `ProtocolError`."""

import contextlib
import json
import time

import pytest
from helpers.damaged_bytes import bent, edits
from helpers.sweeps import part_of
from helpers.traced_memory import allocates_less_than
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.protocol.handshake import MAX_TAKEN, PROTOCOL, Hello, Refusal, Resume, Welcome, decode_answer
from mpqueue.service.protocol.records import MAX_HANDSHAKE
from mpqueue.transport.records import ProtocolError

numbers = st.integers(0, (1 << 63) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
resumes = st.builds(Resume, job=texts, epoch=numbers, taken=st.lists(numbers, max_size=20).map(tuple), count=numbers)
hellos = st.builds(Hello, rank=st.none() | numbers, join=st.sampled_from(["next", "now"]), resume=st.none() | resumes)
NUMBERS = "epoch", "segment_bytes", "stride", "pid"
welcomes = st.builds(
    Welcome,
    name=texts,
    mode=st.sampled_from(["split", "broadcast"]),
    world=st.none() | st.integers(1, 1 << 40),
    job=texts,
    length=st.none() | numbers,
    **dict.fromkeys(NUMBERS, numbers),
)
refusals = st.builds(Refusal, refused=st.text(st.characters(exclude_categories=["Cs"]), max_size=4000))
handshakes = hellos | welcomes | refusals
WELCOME = Welcome(name="photos", mode="split", world=4, job="abc", length=250, **dict.fromkeys(NUMBERS, 1))


def changed(handshake, **changes):
    """The bytes of a handshake with changed keys; keys set to `...` are left out."""
    message = json.loads(handshake.encode()) | changes
    return json.dumps({key: value for key, value in message.items() if value is not ...}).encode()


@given(handshakes)
def test_handshakes_are_decoded_unchanged(handshake):
    assert type(handshake).decode(handshake.encode()) == handshake
    if not isinstance(handshake, Hello):
        assert decode_answer(handshake.encode()) == handshake


def test_largest_messages_fit():
    most = (1 << 63) - 1
    resume = Resume(job="\U0001f600" * 256, epoch=most, taken=(most,) * MAX_TAKEN, count=most)
    assert len(Hello(rank=most, resume=resume).encode()) <= MAX_HANDSHAKE
    assert len(Refusal(refused="\U0001f600" * 100_000).encode()) <= MAX_HANDSHAKE


def test_refusal_is_truncated_and_escaped():
    assert decode_answer(Refusal(refused="no " * 10_000).encode()).refused.startswith("no no no")
    assert decode_answer(Refusal(refused="no \ud800").encode()).refused == "no \\ud800"


def test_unknown_keys_are_ignored():
    assert Hello.decode(changed(Hello(rank=3), colour="blue", compression=["zstd"])) == Hello(rank=3)
    assert decode_answer(changed(WELCOME, colour="blue")) == WELCOME


@pytest.mark.parametrize("decode", [Hello.decode, decode_answer])
def test_other_protocol_is_refused_with_both_versions(decode):
    """By the number: the rest of the message may be unknown."""
    theirs = json.dumps({"protocol": PROTOCOL + 1, "version": "9.8"}).encode()
    own, other = rf"{PROTOCOL} \(mpqueue {mpqueue.__version__}\)", rf"protocol {PROTOCOL + 1} \(mpqueue 9.8\)"
    both = f"expected protocol {own}, got {other}: install"
    with pytest.raises(ServiceError, match=both):
        decode(theirs)


def test_refusal_of_other_protocol_is_decoded():
    answer = decode_answer(b'{"protocol": 99, "version": "9.8", "refused": "you are too old: install 9.8"}')
    assert answer.refused == "you are too old: install 9.8"


WRONG = {
    "protocol": [None, "1", 1.0, True, -1, 1 << 63, [1], {}, ...],
    "version": [None, 1, "1" * 257, "\ud800", [], ...],
    "rank": [-1, 1 << 63, 10**4000, 0.0, True, "0", [], {}, ...],
    "join": [None, "later", 0, ["next"], ...],
    "resume": [0, "", [], True, {}, {"job": "a"}, ...],
}


@pytest.mark.parametrize("key", WRONG)
def test_value_of_wrong_type_or_range_is_refused_in_few_words(key):
    for value in WRONG[key]:
        words = f"expected a handshake with '{key}'" if value is ... else None
        with pytest.raises(ProtocolError, match=words) as caught:
            Hello.decode(changed(Hello(), **{key: value}))
        assert len(str(caught.value)) < 500, "a peer must not fill the logs"


def test_all_values_of_welcome_are_checked():
    for key in json.loads(WELCOME.encode()):
        for value in (-1, True, 0.5, [], {}, "x" * 300, ...):
            with pytest.raises(ProtocolError):
                decode_answer(changed(WELCOME, **{key: value}))


def test_taken_positions_are_a_list_of_bounded_length():
    for taken in ([0] * (MAX_TAKEN + 1), [-1], [None], {"0": 0}, [1 << 63]):
        resume = {"job": "a", "epoch": 0, "taken": taken, "count": 0}
        with pytest.raises(ProtocolError, match=r"Resume\.taken"):
            Hello.decode(changed(Hello(), resume=resume))


def test_non_objects_are_refused():
    big = (b"[" * MAX_HANDSHAKE, b"1" * MAX_HANDSHAKE, b" " * (MAX_HANDSHAKE + 1))
    for data in (b"", b"\xff", b"[]", b'"protocol"', b"{}", *big):
        for decode in (Hello.decode, decode_answer, Welcome.decode, Refusal.decode):
            with pytest.raises(ProtocolError):
                decode(data)


def test_deeply_nested_object_is_refused():
    """The parser may succeed where formatting of the error message would exceed the recursion limit."""
    for depth in range(800, 1100):
        nested = b"[" * depth + b"]" * depth
        for data in (nested, b'{"protocol": %d, "version": "1", "rank": ' % PROTOCOL + nested + b"}"):
            with pytest.raises(ProtocolError):
                Hello.decode(data)


@settings(max_examples=part_of(200, 4))
@given(st.binary(max_size=200) | handshakes.map(lambda handshake: handshake.encode()), st.integers(0, 5000), edits)
def test_random_truncated_and_mutated_bytes_are_decoded_or_refused(data, length, edits):
    for damaged in (data, data[:length], bent(data, edits), bent(data, edits)[:length]):
        for decode in (Hello.decode, decode_answer):
            try:
                message = decode(damaged)
            except (ProtocolError, ServiceError):
                continue
            assert decode(message.encode()) == message  # accepted data could have been sent


WIDE = b"[" + b"[]," * (MAX_HANDSHAKE // 3 - 1) + b"[]]"


@pytest.mark.parametrize("data", [b"[" * MAX_HANDSHAKE, WIDE], ids=["nested", "wide"])
def test_worst_handshake_needs_little_memory(data):
    with allocates_less_than(64 * MAX_HANDSHAKE), pytest.raises(ProtocolError):
        Hello.decode(data)


@pytest.mark.measures
def test_worst_handshake_takes_little_longer_than_its_json():
    """A peer that sends many handshakes does not block the others."""

    def decode():
        with contextlib.suppress(ProtocolError):
            Hello.decode(WIDE)

    def spent_s(call):
        before = time.process_time()
        for _ in range(10):
            call()
        return time.process_time() - before

    assert spent_s(decode) < 10 * spent_s(lambda: json.loads(WIDE))
