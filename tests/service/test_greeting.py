"""The greeting: what is said comes out equal, and nothing else comes out."""

import json
import tracemalloc

import pytest
from helpers.bending import bent, edits
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.greeting import MAX_TAKEN, PROTOCOL, Hello, Refusal, Resume, Welcome, decode_answer
from mpqueue.service.records import MAX_GREETING
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
greetings = hellos | welcomes | refusals
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


def changed(greeting, **changes):
    """The bytes of a greeting that differs in some keys; those of None are left out."""
    found = json.loads(greeting.encode()) | changes
    return json.dumps({key: value for key, value in found.items() if value is not ...}).encode()


@given(hellos)
def test_what_a_consumer_says_comes_out_equal(hello):
    assert Hello.decode(hello.encode()) == hello


@given(welcomes | refusals)
def test_what_a_server_answers_comes_out_equal(answer):
    assert decode_answer(answer.encode()) == answer
    assert type(answer).decode(answer.encode()) == answer


def test_unknown_keys_are_ignored():
    assert Hello.decode(changed(Hello(rank=3), colour="blue", compression=["zstd"])) == Hello(rank=3)
    assert decode_answer(changed(WELCOME, colour="blue")) == WELCOME


@pytest.mark.parametrize("decode", [Hello.decode, decode_answer])
def test_another_protocol_is_refused_with_both_versions(decode):
    """By the number: what else is said need not be understood."""
    theirs = json.dumps({"protocol": PROTOCOL + 1, "version": "9.8"}).encode()
    both = rf"protocol {PROTOCOL + 1} \(mpqueue 9.8\), this one {PROTOCOL} \(mpqueue {mpqueue.__version__}\): install"
    with pytest.raises(ServiceError, match=both):
        decode(theirs)


def test_a_refusal_of_another_protocol_is_understood():
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
def test_a_value_of_another_type_or_out_of_its_bounds_is_no_greeting(key, value):
    with pytest.raises(ProtocolError, match=f"without '{key}'" if value is ... else None):
        Hello.decode(changed(Hello(), **{key: value}))


@pytest.mark.parametrize("key", json.loads(WELCOME.encode()))
@pytest.mark.parametrize("value", [-1, True, 0.5, [], {}, "x" * 300, ...])
def test_no_value_of_a_welcome_is_taken_as_it_comes(key, value):
    with pytest.raises(ProtocolError):
        decode_answer(changed(WELCOME, **{key: value}))


@pytest.mark.parametrize(
    "taken", [[0] * (MAX_TAKEN + 1), [-1], [None], ["0"], [True], [[0]], {"0": 0}, "0", [1 << 63]], ids=repr
)
def test_the_batches_that_were_taken_are_a_list_of_bounded_length(taken):
    resume = {"job": "a", "epoch": 0, "taken": taken, "count": 0}
    with pytest.raises(ProtocolError, match=r"Resume\.taken"):
        Hello.decode(changed(Hello(), resume=resume))


@settings(max_examples=200)
@given(st.binary(max_size=200) | greetings.map(lambda greeting: greeting.encode()), st.integers(0, 5000), edits)
def test_random_truncated_and_mutated_bytes_are_a_greeting_or_a_corrupt_message(data, length, edits):
    for damaged in (data, data[:length], bent(data, edits), bent(data, edits)[:length]):
        for decode in (Hello.decode, decode_answer):
            try:
                found = decode(damaged)
            except (ProtocolError, ServiceError):
                continue
            assert decode(found.encode()) == found  # what is taken could have been said


@pytest.mark.parametrize(
    "data",
    [b"[" * MAX_GREETING, b"[" + b"[]," * (MAX_GREETING // 3 - 1) + b"[]]", b'{"rank":[' + b"1," * 60_000 + b"1]}"],
    ids=["nested", "wide", "numbers"],
)
def test_the_worst_greeting_costs_little_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            Hello.decode(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * MAX_GREETING
