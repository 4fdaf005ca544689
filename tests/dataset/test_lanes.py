"""Lanes of a stream: errors, skipped samples, snapshots, endless epochs, functions in threads."""

import pickle
import re
import signal
import threading
import time

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.footprint import DEADLOCK_S
from helpers.pipelines import Failed, opened, reopened, rest_of
from helpers.signal_handlers import handling, raising
from model.functions import Shards, _Stateful

import mpqueue
from mpqueue.dataset.lanes import roots, stage_work
from mpqueue.worker import context


def always(value):
    return True


# -- Errors


def failing_at(*positions):
    def function(value):
        if value in positions:
            raise ValueError(f"no {value}")
        return value

    return function


def test_notes_of_an_error_name_stage_sample_and_lane():
    dataset = mpqueue.Dataset.range(20).filter(always).map(failing_at(9)).batch(4)
    with pytest.raises(ValueError, match="no 9") as caught:
        opened(dataset, 1, 4, epoch=2).next()
    assert caught.value.__notes__ == ["raised by stage 2, map(function), for sample 9 of epoch 2 in lane 1 of 4"]


def test_error_of_the_source_names_sample_and_lane():
    def broken(index):
        if index == 3:
            raise OSError("cannot read")
        return index

    lane = opened(mpqueue.Dataset(Computed(broken, 6)).filter(always), 1, 2)
    assert lane.next() == 1
    with pytest.raises(OSError, match="cannot read") as caught:
        lane.next()
    assert lane.next() == 5
    assert re.search("place 3 .*lane 1 of 2", " ".join(caught.value.__notes__))


def test_large_samples_of_an_open_batch_are_copied_out_of_the_slot(monkeypatch):
    slots = []

    def empty(shape, dtype=float):
        slots.append(np.zeros(shape, dtype))
        return slots[-1]

    monkeypatch.setattr(context, "empty", empty)

    def row(value):
        if value == 2:
            raise ValueError("no 2")
        return {"x": np.full(1000, value), "y": (np.full(2000, -value), value)}

    lane = opened(mpqueue.Dataset.range(6).filter(always).map(row).batch(3), in_slot=True)
    with pytest.raises(ValueError, match="no 2"):
        lane.next()
    for slot in slots:
        slot.fill(77)  # the slot belongs to another batch
    batch = lane.next()
    assert batch["x"][:, 0].tolist() == [0, 1, 3]
    assert batch["y"][0][:, -1].tolist() == [0, -1, -3]
    assert batch["y"][1].tolist() == [0, 1, 3]


def test_stop_iteration_in_user_code_does_not_end_the_stream():
    def stop(value):
        raise StopIteration

    found = rest_of(opened(mpqueue.Dataset.range(2).filter(always).map(stop)))
    assert found == [Failed("RuntimeError", "the source raised StopIteration")] * 2


def test_stop_iteration_in_user_code_raises_when_a_lane_is_reopened():
    def stop_later(value):
        if is_opened_again:
            raise StopIteration
        return value

    is_opened_again = False
    dataset = mpqueue.Dataset.range(9).filter(always).map(stop_later).shuffle(buffer=4)
    lane = opened(dataset)
    lane.next()
    is_opened_again = True
    with pytest.raises(RuntimeError, match="the source raised StopIteration"):
        reopened(dataset, lane)  # computes the elements of the buffer again


def test_generator_that_raises_has_ended():
    def elements():
        yield 1
        raise OSError("the disk was removed")

    assert rest_of(opened(mpqueue.Dataset(elements))) == [1, Failed("OSError", "the disk was removed")]


# -- Skipping


def test_batch_that_cannot_be_collated_is_skipped_as_a_whole():
    skipped = []
    dataset = mpqueue.Dataset([[1], [2], [3, 4], [5], [6], [7]]).map(np.array).filter(always).batch(2)
    found = rest_of(opened(dataset, skip=skipped.append))
    assert [batch.tolist() for batch in found] == [[[1], [2]], [[6], [7]]]
    assert [entry.indices for entry in skipped] == [(2, 3)]


# -- Snapshots


def test_snapshot_contains_positions_only():
    """16 lanes with buffers of 1,000 samples of a kilobyte take less than a megabyte."""
    dataset = mpqueue.Dataset.range(10**9).shuffle().map(lambda value: bytes(1000)).filter(always)
    dataset = dataset.shuffle(buffer=1000).batch(8)
    size = 0
    for lane in range(16):
        one = opened(dataset, lane, 16)
        one.next()
        size += len(pickle.dumps(one.save()))
    assert 16 * 1000 < size < 1_000_000


def test_resume_costs_no_more_than_filling_the_buffer():
    calls = []

    def counted(value):
        calls.append(value)
        return value

    dataset = mpqueue.Dataset.range(10**7).map(counted).filter(always).shuffle(buffer=100).batch(10)
    lane = opened(dataset)
    for _ in range(200):
        lane.next()
    calls.clear()
    again = reopened(dataset, lane)
    assert 100 <= len(calls) <= 100 + 8 * 10  # elements read ahead are computed again, too
    assert again.next().tolist() == lane.next().tolist()


def test_source_with_state_dict_is_not_read_from_its_beginning_again(monkeypatch):
    monkeypatch.setattr(roots, "clock_ns", lambda: 0)  # saving a state takes no time
    reads = []

    class Counting(_Stateful):
        def __next__(self):
            reads.append(self._at)
            return super().__next__()

    dataset = mpqueue.Dataset(lambda: Counting(10**9, 3, 0, 1)).shuffle(buffer=50).batch(8, collate=tuple)
    lane = opened(dataset, skip=lambda entry: None)
    for _ in range(2000):
        lane.next()
    reads.clear()
    again = reopened(dataset, lane, skip=lambda entry: None)
    # An element remains in the buffer at each pick with probability 49/50, so the oldest one is some hundred picks old.
    assert len(reads) < 2000
    assert [again.next() for _ in range(20)] == [lane.next() for _ in range(20)]


def test_iterable_dataset_can_hold_the_state_itself():
    class Lines:
        """As in Hugging Face's datasets, a new iterator continues from the loaded state."""

        def __init__(self):
            self.at = 0

        def __iter__(self):
            while self.at < 40:
                self.at += 1
                yield self.at

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    dataset = mpqueue.Dataset(Lines()).shuffle(buffer=5)
    wanted = rest_of(opened(dataset))
    lane = opened(dataset)
    begun = [lane.next() for _ in range(17)]
    assert [*begun, *rest_of(reopened(dataset, lane))] == wanted
    assert sorted(wanted) == list(range(1, 41))


def test_slow_rereading_of_a_source_without_state_warns(monkeypatch, caplog):
    dataset = mpqueue.Dataset(Shards(30)).filter(always)
    lane = opened(dataset)
    for _ in range(20):
        lane.next()
    now = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(roots, "clock_ns", lambda: next(now))
    assert len(rest_of(reopened(dataset, lane))) == 10
    (record,) = caplog.records
    assert "state_dict() and load_state_dict()" in record.getMessage()


def test_interrupted_lane_must_be_opened_again():
    class Interrupt(Exception):
        pass

    def interrupted(value):
        if value == 2:
            signal.raise_signal(signal.SIGUSR1)
        return value

    lane = opened(mpqueue.Dataset.range(5).filter(always).map(interrupted).batch(4), skip=lambda entry: None)
    with handling(raising(Interrupt), signal.SIGUSR1), pytest.raises(Interrupt):
        lane.next()
    with pytest.raises(RuntimeError, match="was interrupted"):
        lane.next()


# -- Endless epochs, random numbers, counts


def test_counts_of_passes_and_epochs_add_up():
    dataset = mpqueue.Dataset.range(3).filter(always).repeat(2)
    lane = opened(dataset, endless=True)
    for _ in range(15):
        lane.next()
    assert [row[2] for row in lane.counts()] == [15, 15, 15]


@pytest.mark.parametrize("stop", ["all", "never"])
def test_counts_of_a_mix_with_restarted_inputs_add_up(stop):
    one = mpqueue.Dataset.range(6).filter(always).map(abs)
    other = mpqueue.Dataset.range(100, 103).filter(always).batch(1)
    lane = opened(mpqueue.Dataset.mix([one, other], stop=stop))
    for _ in range(9):
        lane.next()
    rows = {row[0]: row[1:3] for row in lane.counts()}
    assert len(rows) == len(lane.counts()) == 7
    for name, source in (("2: map(abs)", "1: filter(always)"), ("5: batch(1)", "4: filter(always)")):
        assert rows[name][0] == rows[source][1]  # a restarted input must not be counted twice
    assert rows["2: map(abs)"][1] + rows["5: batch(1)"][1] == rows[lane.counts()[6][0]][0] == 9


def is_even(number):
    return number % 2 == 0


FRUITLESS = {  # in a lane of odd numbers
    "filter(is_even)": lambda endless: endless.filter(is_even),
    "filter(is_even, threads=2)": lambda endless: endless.filter(is_even, threads=2),
    "filter(": lambda endless: endless.map(float).filter(is_even).batch(2),
    "map(": lambda endless: endless.map(lambda number: number // 0).filter(bool),
    "flat_map": lambda endless: endless.flat_map(lambda number: iter(())).batch(2),
    "flat_map(<lambda>)": lambda endless: endless.flat_map(lambda number: []),
    "pack": lambda endless: endless.map(lambda number: [number] * 9).pack(4, long="drop"),
}


@pytest.mark.parametrize("name", FRUITLESS)
def test_stage_without_results_on_an_endless_dataset_raises(name, monkeypatch):
    monkeypatch.setattr(roots, "LEAST_FRUITLESS", 500)
    dataset, skipped = FRUITLESS[name](mpqueue.Dataset.range(10).repeat()), []
    lane = opened(dataset, lane=1, num_lanes=4, skip=skipped.append if name == "map(" else None)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"stage \d, {re.escape(name)}.* none of the last [\d,]+ elements"):
            lane.next()


@pytest.mark.parametrize("threads", [1, 2])
def test_endless_filter_that_keeps_elements_in_other_lanes_or_epochs_goes_on(threads, monkeypatch):
    monkeypatch.setattr(roots, "LEAST_FRUITLESS", 500)
    numbers = mpqueue.Dataset.range(10)
    kept = opened(numbers.repeat().filter(is_even, threads=threads), lane=2, num_lanes=4)
    shuffled = opened(numbers.shuffle().repeat().filter(is_even, threads=threads), lane=1, num_lanes=4)
    assert all(lane.next() is not None for lane in (kept, shuffled) for _ in range(20))


def test_large_endless_dataset_is_read_completely_before_giving_up(monkeypatch):
    monkeypatch.setattr(roots, "LEAST_FRUITLESS", 500)
    lane = opened(mpqueue.Dataset.range(4001).repeat().filter(lambda number: number == 4000), lane=1, num_lanes=4)
    assert [lane.next() for _ in range(3)] == [4000] * 3


def test_long_search_warns_and_continues(monkeypatch, caplog):
    monkeypatch.setattr(stage_work, "_LONG_NS", 0)
    lane = opened(mpqueue.Dataset.range(40_000).filter(lambda number: number == 39_999), lane=3, num_lanes=4)
    assert lane.next() == 39_999
    assert "has returned none of the last" in caplog.text
    assert "lane 3 of 4" in caplog.text


def ten(number):
    return [10 * number + item for item in range(10)]


def test_filter_after_flat_map_sees_all_items_before_giving_up(monkeypatch):
    monkeypatch.setattr(roots, "LEAST_FRUITLESS", 50)
    lane = opened(mpqueue.Dataset.range(10).repeat().flat_map(ten).filter(lambda number: number == 99))
    assert [lane.next() for _ in range(3)] == [99] * 3


def test_pack_that_drops_most_samples_continues():
    texts = mpqueue.Dataset.range(1000).map(lambda number: [number] * (2 if number % 300 == 299 else 9))
    assert len(rest_of(opened(texts.pack(4, long="drop")))) == 2


# -- Stage functions that are called in threads


class Meeting:
    """A function that returns when a given number of threads is in it."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)

    def __call__(self, value):
        self.barrier.wait(DEADLOCK_S)
        return value


def test_all_threads_are_in_the_function_at_once():
    dataset = mpqueue.Dataset.range(24).filter(always).map(Meeting(4), threads=4)
    assert rest_of(opened(dataset, 1, 2)) == list(range(1, 24, 2))


def test_at_most_four_elements_per_thread_are_read_ahead():
    taken = []
    dataset = mpqueue.Dataset.range(1000).map(lambda value: taken.append(value) or value).filter(always, threads=3)
    lane = opened(dataset, 1, 2)
    assert [lane.next() for _ in range(10)] == list(range(1, 21, 2))
    assert len(taken) <= 10 + 4 * 3


def test_error_in_a_thread_is_raised_in_order_with_its_note():
    def failing(value):
        if value == 5:
            raise OSError("no such file")
        return value

    lane = opened(mpqueue.Dataset.range(10).filter(always).map(failing, threads=2), 1, 2)
    assert [lane.next(), lane.next()] == [1, 3]
    with pytest.raises(OSError, match="no such file") as caught:
        lane.next()
    assert "stage 2, map(failing, threads=2), for sample 5" in caught.value.__notes__[0]
    assert rest_of(lane) == [7, 9]


def test_threads_end_with_the_last_lane():
    lane = opened(mpqueue.Dataset.range(10).filter(always).map(abs, threads=3))
    lane.next()
    helpers = [one for one in threading.enumerate() if one.name.startswith("mpqueue-helper")]
    assert 0 < len(helpers) <= 3
    del lane
    for one in helpers:
        until = time.monotonic() + DEADLOCK_S
        while one.is_alive() and time.monotonic() < until:
            one.join(0.01)  # repeatedly: without the GIL, objects released by other threads are freed in between
        assert not one.is_alive()
