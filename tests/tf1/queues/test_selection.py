"""A queue selected from several: each call goes to the queue at the current index."""

import numpy as np
import pytest

from mpqueue.tf1.queues.selection import Selection


class Recording:
    """A queue that records its calls."""

    def __init__(self, name):
        self.name, self.dtypes, self.size, self.is_closed = name, [name], len(name), name == "bb"
        self.calls = []

    def __getattr__(self, method):
        def call(*args, **options):
            self.calls.append((method, args, options))
            return method

        return call


@pytest.fixture
def queues():
    return [Recording("a"), Recording("bb"), Recording("ccc")]


def test_each_call_goes_to_selected_queue(queues):
    selection = Selection(1, queues)
    selection.enqueue([1], 2.0)
    selection.enqueue_many([3], 4.0)
    assert selection.dequeue(5.0, list) == "dequeue"
    assert selection.dequeue_many(6, 7.0, list, takes_fewer=True) == "dequeue_many"
    selection.close(True, 8.0)
    assert queues[1].calls == [
        ("enqueue", ([1], 2.0), {}),
        ("enqueue_many", ([3], 4.0), {}),
        ("dequeue", (5.0, list), {}),
        ("dequeue_many", (6, 7.0, list), {"takes_fewer": True}),
        ("close", (True, 8.0), {}),
    ]
    assert queues[0].calls == queues[2].calls == []


def test_selection_has_properties_of_selected_queue_and_dtypes_of_first(queues):
    selection = Selection(np.int64(1), queues)
    assert (selection.size, selection.is_closed) == (2, True)
    assert (Selection(2, queues).size, Selection(2, queues).is_closed) == (3, False)
    assert selection.dtypes == ["a"]
    assert selection.name == "from_list"
    assert repr(selection) == "one of 3 queues"
