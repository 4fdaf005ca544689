"""The handshake: valid messages are decoded unchanged, and others raise `ProtocolError`."""

import contextlib
import json
import time
import tracemalloc
from dataclasses import fields

import pytest
from helpers.bending import bent, edits
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.handshake import MAX_TAKEN, PROTOCOL, Hello, Refusal, Resume, Welcome, decode_answer
from mpqueue.service.records import MAX_HANDSHAKE
from mpqueue.transport.records import ProtocolError

numbers = st.integers(0, (1 << 63) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
resumes = st.builds(Resume, job=texts, epoch=numbers, taken=st.lists(numbers, max_size=20).map(tuple), count=numbers)
hellos = st.builds(
    Hello,
    purpose=st.sampled_from(["batches", "queues"]),
    rank=st.none() | numbers,
    join=st.sampled_from(["next", "now", "replay"]),
    resume=st.none() | resumes,
)
welcomes = st.builds(
    Welcome,
    name=texts,
    mode=st.sampled_from(["split", "broadcast", None]),
    world=st.none() | st.integers(1, 1 << 40),
    job=texts,
    length=st.none() | numbers,
    epoch=numbers,
    window=numbers,
    segment_bytes=numbers,
    stride=numbers,
    uid=numbers,
    pid=numbers,
    queues=st.none() | texts,
    queues_token=st.none() | st.binary(max_size=32).map(bytes.hex),
)
refusals = st.builds(Refusal, refused=st.text(st.characters(exclude_categories=["Cs"]), max_size=4000))
handshakes = hellos | welcomes | refusals
WELCOME = Welcome(
    name="photos",
    mode="split",
    world=4,
    job="abc",
    length=250,
    epoch=0,
    window=8,
    segment_bytes=1 << 34,
    stride=1 << 30,
    uid=1000,
    pid=1,
    queues="\0mpqueue-1",
    queues_token="00ff",
)


def changed(handshake, **changes):
    """The bytes of a handshake with changed keys; keys set to `...` are left out."""
    message = json.loads(handshake.encode()) | changes
    return json.dumps({key: value for key, value in message.items() if value is not ...}).encode()


@given(hellos)
def test_hello_is_decoded_unchanged(hello):
    assert Hello.decode(hello.encode()) == hello


@given(welcomes | refusals)
def test_answers_are_decoded_unchanged(answer):
    assert decode_answer(answer.encode()) == answer
    assert type(answer).decode(answer.encode()) == answer


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
    "purpose": [None, "", "BATCHES", 1, ["batches"], {"batches": 1}, ...],
    "rank": [-1, 1 << 63, 10**4000, 0.0, True, "0", [], {}, ...],
    "join": [None, "later", 0, ["next"], ...],
    "resume": [0, "", [], True, {}, {"job": "a"}, ...],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_value_of_wrong_type_or_range_is_refused(key, value):
    with pytest.raises(ProtocolError, match=f"expected a handshake with '{key}'" if value is ... else None):
        Hello.decode(changed(Hello(), **{key: value}))


@pytest.mark.parametrize("key", json.loads(WELCOME.encode()))
@pytest.mark.parametrize("value", [-1, True, 0.5, [], {}, "x" * 300, ...])
def test_all_values_of_welcome_are_checked(key, value):
    with pytest.raises(ProtocolError):
        decode_answer(changed(WELCOME, **{key: value}))


@pytest.mark.parametrize(
    "taken", [[0] * (MAX_TAKEN + 1), [-1], [None], ["0"], [True], [[0]], {"0": 0}, "0", [1 << 63]], ids=repr
)
def test_taken_positions_are_a_list_of_bounded_length(taken):
    resume = {"job": "a", "epoch": 0, "taken": taken, "count": 0}
    with pytest.raises(ProtocolError, match=r"Resume\.taken"):
        Hello.decode(changed(Hello(), resume=resume))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 100,
        b"[]",
        b"1",
        b"null",
        b'"protocol"',
        b"{",
        b"{}",
        b"NaN",
        b'{"protocol": NaN}',
        b"[" * MAX_HANDSHAKE,
        b'{"a":' * (MAX_HANDSHAKE // 5),
        b"1" * MAX_HANDSHAKE,
        b'{"protocol": ' + b"1" * 100_000 + b"}",
        b" " * (MAX_HANDSHAKE + 1),
        "{}".encode("utf-16"),
    ],
    ids=lambda data: repr(data[:16]),
)
def test_non_objects_are_refused(data):
    for decode in (Hello.decode, decode_answer, Welcome.decode, Refusal.decode):
        with pytest.raises(ProtocolError):
            decode(data)


def test_deeply_nested_object_is_refused():
    """The parser may succeed where formatting of the error message would exceed the recursion limit."""
    for depth in range(800, 1100):
        nested = b"[" * depth + b"]" * depth
        for data in (nested, b'{"protocol": %d, "version": "1", "purpose": ' % PROTOCOL + nested + b"}"):
            with pytest.raises(ProtocolError):
                Hello.decode(data)


@settings(max_examples=200)
@given(st.binary(max_size=200) | handshakes.map(lambda handshake: handshake.encode()), st.integers(0, 5000), edits)
def test_random_truncated_and_mutated_bytes_are_decoded_or_refused(data, length, edits):
    for damaged in (data, data[:length], bent(data, edits), bent(data, edits)[:length]):
        for decode in (Hello.decode, decode_answer):
            try:
                message = decode(damaged)
            except (ProtocolError, ServiceError):
                continue
            assert decode(message.encode()) == message  # accepted data could have been sent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from([*WRONG, *(field.name for kind in (Welcome, Resume) for field in fields(kind)), "refused"]),
        json_values,
    )
)
def test_any_json_object_is_decoded_or_refused(message):
    for decode in (Hello.decode, decode_answer):
        try:
            decode(json.dumps({"protocol": PROTOCOL, "version": "1"} | message).encode())
        except (ProtocolError, ServiceError) as error:
            text = str(error)
            assert len(text) < 500  # a peer must not fill the logs


@pytest.mark.parametrize(
    "data",
    [b"[" * MAX_HANDSHAKE, b"[" + b"[]," * (MAX_HANDSHAKE // 3 - 1) + b"[]]", b'{"rank":[' + b"1," * 60_000 + b"1]}"],
    ids=["nested", "wide", "numbers"],
)
def test_worst_handshake_needs_little_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            Hello.decode(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * MAX_HANDSHAKE


@pytest.mark.measures
def test_worst_handshake_takes_little_longer_than_its_json():
    """A peer that sends many handshakes does not block the others."""
    data = b"[" + b"[]," * (MAX_HANDSHAKE // 3 - 1) + b"[]]"

    def decode():
        with contextlib.suppress(ProtocolError):
            Hello.decode(data)

    def spent_s(call):
        before = time.process_time()
        for _ in range(10):
            call()
        return time.process_time() - before

    assert spent_s(decode) < 10 * spent_s(lambda: json.loads(data))
