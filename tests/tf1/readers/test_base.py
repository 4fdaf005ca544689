"""Features of all readers: units, counters, state, and threads that take turns."""

import contextlib
import itertools
import pickle
from functools import partial

import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, Background
from helpers.concurrent_calls import in_threads
from helpers.injected_exceptions import Strike, Struck
from tf1.helpers.fake_queues import FakeQueue
from tf1.helpers.input_ends import all_until_the_end

import mpqueue
from mpqueue import errors


class SquareReader(mpqueue.ReaderBase):
    """A work unit is a number; its records are the smaller squares."""

    def _on_work_start(self, work):
        self.numbers = iter(range(int(work)))

    def _read(self):
        number = next(self.numbers, None)
        return None if number is None else (b"%d" % number, b"%d" % number**2)


def counts(reader):
    return reader.num_records_produced(), reader.num_work_units_completed()


def test_custom_reader_needs_two_methods():
    reader, queue = SquareReader(), FakeQueue(b"2", b"0", b"3")
    records = [reader.read(queue) for _ in range(5)]
    assert records == [(b"0", b"0"), (b"1", b"1"), (b"0", b"0"), (b"1", b"1"), (b"2", b"4")]
    assert counts(reader) == (5, 2)
    with pytest.raises(errors.OutOfRangeError):
        reader.read(queue)
    assert counts(reader) == (5, 3)


def test_read_up_to_works_without_fast_path_of_subclass():
    reader, queue = SquareReader(), FakeQueue(b"0", b"3", b"3")
    keys, values = reader.read_up_to(queue, 2)
    assert keys.dtype == object and keys.tolist() == [b"0", b"1"] and values.tolist() == [b"0", b"1"]
    keys, values = reader.read_up_to(queue, 2)
    assert values.tolist() == [b"4"]
    assert counts(reader) == (3, 2)


def test_negative_num_records_is_rejected_without_using_the_queue():
    reader, queue = SquareReader(), FakeQueue(b"2")
    with pytest.raises(errors.InvalidArgumentError, match="got -1"):
        reader.read_up_to(queue, -1)
    assert queue.size() == 1 and counts(reader) == (0, 0)


def test_subclass_without_read_names_the_missing_method():
    class Half(mpqueue.ReaderBase):
        def _on_work_start(self, work):
            pass

    with pytest.raises(NotImplementedError, match=r"Half must implement _read\(\)"):
        Half().read(FakeQueue(b"x"))


def test_error_in_on_work_start_drops_the_unit_and_error_in_read_keeps_it():
    class Failing(SquareReader):
        def _on_work_start(self, work):
            if work == b"bad start":
                raise errors.DataLossError(None, None, "start")
            self.is_bad = work == b"bad read"

        def _read(self):
            raise errors.DataLossError(None, None, "read") if self.is_bad else errors.InternalError(None, None, "fine")

    reader, queue = Failing(), FakeQueue(b"bad start", b"bad read", b"2")
    with pytest.raises(errors.DataLossError, match="start"):
        reader.read(queue)
    for _ in range(3):
        with pytest.raises(errors.DataLossError, match="read"):
            reader.read(queue)
    assert queue.size() == 1 and counts(reader) == (0, 0)
    reader.reset()
    with pytest.raises(errors.InternalError):
        reader.read(queue)


@pytest.mark.parametrize("unit", [b"u", "u", np.array(b"u", object), np.array([b"u"], object), {"name": b"u"}])
def test_unit_can_be_any_single_string(unit):
    assert mpqueue.IdentityReader().read(FakeQueue(unit)) == (b"u", b"u")


@pytest.mark.parametrize(
    "unit", [np.int32(1), [b"a", b"b"], np.array([b"a", b"b"], object), {"a": b"a", "b": b"b"}, 1.5, None]
)
def test_invalid_unit_is_rejected_and_next_unit_is_read(unit):
    reader, queue = mpqueue.IdentityReader(), FakeQueue(unit, b"next")
    with pytest.raises(errors.InvalidArgumentError, match="one string component"):
        reader.read(queue)
    assert reader.read(queue)[0] == b"next"


def test_timeout_ends_wait_for_unit_without_losses():
    reader, queue = mpqueue.IdentityReader(), FakeQueue(is_open=True)
    with pytest.raises(errors.DeadlineExceededError):
        reader.read(queue, timeout=0.01)
    with pytest.raises(errors.DeadlineExceededError):
        reader.read_up_to(queue, 2, timeout=0.01)
    queue.enqueue(b"late")
    assert reader.read(queue, timeout=DEADLOCK_S) == (b"late", b"late")


def test_timeout_ends_wait_for_other_reading_thread():
    reader, queue = mpqueue.IdentityReader(), FakeQueue(is_open=True)
    reading = Background(reader.read, queue)
    queue.wait_until_blocked()
    with pytest.raises(errors.DeadlineExceededError, match="Another thread"):
        reader.read(queue, timeout=0.01)
    assert counts(reader) == (0, 0)  # the counters can be read at the same time
    queue.enqueue(b"x")
    assert reading.finish() == (b"x", b"x")


def test_threads_sharing_a_reader_get_each_record_once():
    reader, queue = SquareReader(), FakeQueue(*[b"50"] * 20)
    read_all = partial(all_until_the_end, partial(reader.read, queue))
    got = in_threads(*[read_all] * 4)
    assert sorted(int(key) for into in got for key, _ in into) == sorted([*range(50)] * 20)
    assert counts(reader) == (1000, 20)


def test_copy_in_other_process_starts_without_unit_with_same_arguments(tmp_path):
    (tmp_path / "t").write_text("a\nb\nc\n")
    reader, queue = mpqueue.TextLineReader(skip_header_lines=1, name="lines"), FakeQueue(bytes(tmp_path / "t"))
    reader.read(queue)
    copy = pickle.loads(pickle.dumps(reader))
    assert counts(copy) == (0, 0) and copy.name == "lines"
    assert copy.read(FakeQueue(bytes(tmp_path / "t")))[1] == b"b"
    assert reader.read(queue)[1] == b"c"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (b"", (0, 0)),
        (b"\x08\x01\x10\x01\x18\x01", (1, 1)),
        (b"\x08\x01\x10\x02\x18\x01", (1, 2)),
        (b"\x28\x01\x10\x01\x31aaaaaaaa\x3daaaa\x42\x01a", (0, 1)),  # unknown fields
    ],
)
def test_states_accepted_by_tensorflow_are_accepted(state, expected):
    reader = mpqueue.IdentityReader()
    reader.restore_state(state)
    assert counts(reader) == expected


@pytest.mark.parametrize(
    "state",
    [
        b"zzz",
        b"\x08\x02\x10\x01\x18\x01",  # an unfinished unit
        b"\x18" + b"\xff" * 9 + b"\x01",  # -1 records
        b"\x08",
        b"\x08" + b"\xff" * 11,
        b"\x22\x7faa",
        b"\x22" + b"\xff" * 9 + b"\x01aa",
        b"\x08\x01\x10\x01\x1a\x01a",
        b"\x00\x01",
        b"\x23\x24",
    ],
)
def test_invalid_state_is_rejected_and_resets_the_reader(state):
    reader = mpqueue.IdentityReader()
    reader.read(FakeQueue(b"x"))
    with pytest.raises(errors.InvalidArgumentError, match="Cannot restore"):
        reader.restore_state(state)
    assert counts(reader) == (0, 0)


def test_reader_in_the_middle_of_a_file_cannot_be_saved_and_restoring_resets_it(tmp_path):
    (tmp_path / "t").write_text("a\nb\n")
    reader, queue = mpqueue.TextLineReader(), FakeQueue(bytes(tmp_path / "t"))
    reader.read(queue)
    assert not reader.supports_serialize
    with pytest.raises(errors.UnimplementedError):
        reader.serialize_state()
    with pytest.raises(errors.UnimplementedError):
        reader.restore_state(b"")
    assert counts(reader) == (0, 0)
    with pytest.raises(errors.OutOfRangeError):
        reader.read(queue)


def test_read_op_is_a_source_with_dtypes_and_shapes():
    reader, queue = SquareReader(), FakeQueue(b"3")
    source = reader.read_op(queue)
    assert source.dtypes == ["string", "string"] and source.shapes == [(), ()]
    assert source() == (b"0", b"0")
    some = reader.read_up_to_op(queue, 5)
    assert some.dtypes == ["string", "string"] and some.shapes == [(None,), (None,)]
    assert [part.tolist() for part in some()] == [[b"1", b"2"], [b"1", b"4"]]
    with pytest.raises(errors.OutOfRangeError):
        source()


def test_interrupt_at_any_step_leaves_reader_unlocked():
    reader, queue = SquareReader(), FakeQueue(*[b"1000"] * 1000)
    for after in itertools.count(1):
        with contextlib.suppress(Struck), (strike := Strike(after)):
            reader.read(queue)
        reader.read(queue, timeout=0)  # otherwise it raises DeadlineExceededError
        if strike.left > 0:
            break
    assert after > 10


@pytest.mark.parametrize(("timeout", "error"), [("1", TypeError), (-1, ValueError), (float("nan"), ValueError)])
def test_invalid_timeout_of_a_read_is_rejected_without_using_the_queue(timeout, error):
    queue = FakeQueue("a")
    with pytest.raises(error, match="timeout must be"):
        mpqueue.IdentityReader().read(queue, timeout=timeout)
    assert queue.units == ["a"]


@pytest.mark.parametrize("state", [None, "abc"])
def test_state_that_is_not_bytes_raises_type_error(state):
    with pytest.raises(TypeError, match="state must be"):
        mpqueue.IdentityReader().restore_state(state)
