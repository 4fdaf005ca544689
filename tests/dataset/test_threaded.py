"""Stage functions that are called in threads: the same elements in the same order, some computed ahead."""

import threading
import time

import pytest
from helpers.footprint import DEADLOCK_S
from helpers.pipelines import opened, rest_of

import mpqueue


def always(value):
    return True


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
