"""A process that connects and says what no queue says: it is told, or cut off, and all others are served on."""

import os
import pickle
import random

import numpy as np
import pytest
from helpers.others import Other

from mpqueue import FIFOQueue
from mpqueue.errors import InvalidArgumentError
from mpqueue.memory.arena import class_for
from mpqueue.queues import sharing
from mpqueue.queues.connection import connection
from mpqueue.queues.wire import RECORD, Up

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Marking:
    """Its unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_a_process_describes_is_unpickled(tmp_path):
    queue = FIFOQueue(10, "int64", [[]], shared_name="jobs")
    data = pickle.dumps(Marking(str(tmp_path / "was_unpickled")))
    with Other(queue) as other, pytest.raises(InvalidArgumentError, match="no JSON object"):
        other.ask(lambda q: connection(q.queue_ref.place).find(data))
    assert not list(tmp_path.iterdir())


def say(place, *records):
    """Write these records by a connection of our own; each is kind, flag, queue, number, argument and seq."""
    made = connection(place)
    for kind, *said in records:
        flag, queue, number, argument, seq = said
        os.write(made._pipe, RECORD.pack(made._mark | kind, flag, made.number, queue, number, argument, seq))
    return made


def test_a_description_longer_than_its_block_is_the_end_of_its_connection(caplog):
    queue = FIFOQueue(10, "int64", [[]])

    def describe(q):
        size_class = class_for(100)
        made = connection(q.queue_ref.place)
        made.keep(made._ask(made.want(0, size_class, 1)))
        say(q.queue_ref.place, (Up.FIND, size_class, 0, 77, 1 << 30, 0))
        return made._sock.recv(1)

    with Other(queue) as other:
        assert other.ask(describe) == b""
        assert "a description of" in caplog.text
        other.ask(lambda q: q.enqueue(5))  # a new connection is served
    assert queue.dequeue(timeout=30) == 5


NUMBERS = [0, 1, 2, 3, 7, 64, 1000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_records_come_the_others_are_served(seed):
    """Kinds that exist with any numbers: the connection may be cut off, and nothing else happens to other queues."""
    queues = [FIFOQueue(-1, "int64", [[]]) for _ in range(10)]  # of which the stranger closes and empties some
    queue = next(each for each in queues if sharing.place_of(each.queue_ref).number not in NUMBERS)

    def babble(q):
        chosen = random.Random(seed)
        q.size()
        for _ in range(40):
            flag, queue_number, number = (chosen.choice(NUMBERS) for _ in range(3))
            argument = chosen.choice(NUMBERS[:7])  # more blocks would be all memory that there is
            seq = chosen.choice([*NUMBERS[:7], -1, -(1 << 63)])
            say(q.queue_ref.place, (chosen.randint(1, 15), flag & 0xFFFF, queue_number, number, argument, seq))

    with Other(queue) as stranger, Other(queue) as other:
        stranger.ask(babble)
        for value in range(3):
            other.ask(lambda q, v: q.enqueue(v), value)
        assert [other.ask(lambda q: int(q.dequeue(timeout=30))) for _ in range(3)] == [0, 1, 2]
        queue.enqueue(np.int64(9))
        assert other.ask(lambda q: int(q.dequeue(timeout=30))) == 9
