"""The engine as a server drives it: real workers, and a loop that waits for descriptors only."""

import mmap
import os
import select

import numpy as np
import pytest
from helpers.engine_parts import work_items_of
from helpers.faults import Numbers
from helpers.mapped_values import Follows

from mpqueue import Dataset
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.layout import ReadSpec, base_over
from mpqueue.service.protocol.records import PARTIAL
from mpqueue.service.routing.modes import mode_of
from mpqueue.service.routing.rules import Rules
from mpqueue.service.routing.seat_batches import Failure
from mpqueue.service.serving.journal import job_of
from mpqueue.service.stream.making import make_stream

DEADLOCK_S = 60


class Reader:
    """A consumer's part: maps the ring for reading, and rebuilds batches."""

    def __init__(self, stream):
        self.ring = stream.slots.ring
        self.memory = mmap.mmap(stream.ring_fd, stream.slots.ring.segment.size, prot=mmap.PROT_READ)

    def read(self, handle):
        """Return a private copy of a handle's tree."""
        spec, start = ReadSpec(handle.spec), handle.slot.index * self.ring.stride
        recipe = spec.recipes[self.memory[start + handle.header_offset : start + handle.nbytes]]
        data = base_over(self.memory, start, handle.header_offset, None).copy()
        tree = spec.rebuild(recipe, base_over(data, 0, len(data), recipe.structure))
        return tree[0] if handle.flags & PARTIAL else tree


class Server:
    """A loop over one stream."""

    def __init__(self, source, **options):
        self.stream = make_stream(source, **{"workers": 2, "seed": 5, **options})
        self.stream.start()
        self.reader = Reader(self.stream)

    def wait(self):
        """Wait for reports of the workers, or until the stream needs attention."""
        timeout_s = self.stream.timeout_s()
        ready = select.select([self.stream.fileno()], [], [], DEADLOCK_S if timeout_s is None else timeout_s)[0]
        assert ready or timeout_s is not None, "no event and no timeout left"
        self.stream.advance()

    def take(self, **options):
        """Return the next handle or failure; None at the end of the epoch."""
        while (outcome := self.stream.take(**options)) is None and not self.stream.has_ended:
            self.wait()
        return outcome

    def value(self, outcome):
        """Return the repeated value of a batch, or the error; free its slot."""
        if isinstance(outcome, Failure):
            return outcome.error
        batch = self.reader.read(outcome)
        self.stream.slots.share(outcome)
        self.stream.slots.release(outcome)
        return int(np.asarray(batch).flat[0])

    def epoch(self, number):
        """Return the batches of an epoch, as (position, value)."""
        self.stream.open_epoch(number)
        yielded = []
        while (one := self.take()) is not None:
            yielded.append((one.position, self.value(one)))
        self.stream.finish_epoch()
        return yielded

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.stop()


def values(yielded):
    return [value for _, value in yielded]


# -- Order


class EndsBadly(Numbers):
    def on_epoch_end(self):
        raise ValueError("a bad end")


def test_exception_of_epoch_end_is_first_in_next_epoch():
    with Server(EndsBadly(3)) as server:
        server.epoch(0)
        server.stream.open_epoch(1)
        failure = server.take()
        assert (failure.epoch, failure.position, failure.turn, str(failure.error)) == (1, -1, 0, "a bad end")
        assert [server.value(server.take()) for _ in range(3)] == [0, 1, 2]


def test_epoch_begins_with_the_present_content_of_shared_memory(tmp_path):
    source = Follows(tmp_path / "value")
    with Server(source) as server:
        for epoch in range(4):
            source.value[0] = epoch
            assert values(server.epoch(epoch)) == [epoch] * 4
            assert not work_items_of(server.stream)


# -- Holders


def test_all_slots_held_by_waiting_holders_is_an_error():
    with Server(Numbers(40), num_kept=0, max_queue_size=1, workers=1) as server:
        server.stream.open_epoch(0)
        held = []
        while not isinstance(yielded := server.take(may_fail=True), Failure):
            server.stream.slots.share(yielded)
            held.append(yielded)
        assert isinstance(yielded.error, SharedMemoryFull)
        assert len(held) == server.stream.statistics().num_slots
        for handle in held:
            server.stream.slots.release(handle)
        assert server.take().position == yielded.position + 1


# -- Errors and crashes


class HasNoLength(Numbers):
    def __len__(self):
        if os.path.exists(self.length):
            return 2
        raise OSError("no index")


def test_length_of_source_without_length_is_requested_again(tmp_path):
    ready = tmp_path / "ready"
    ready.touch()
    with Server(HasNoLength(str(ready)), workers=1) as server:
        assert len(server.epoch(0)) == 2
        ready.unlink()
        server.stream.open_epoch(1)
        failure = server.take()
        assert (failure.position, str(failure.error)) == (-1, "no index")
        assert server.stream.take() is None  # only after some time
        assert 0 < server.stream.timeout_s() <= 1
        while server.stream.timeout_s() is not None:
            server.wait()
        ready.touch()
        assert [server.take().position for _ in range(2)] == [0, 1]


# -- Start and stop


def test_stream_is_idle_without_requests():
    with Server(Numbers(50)) as server:
        server.stream.open_epoch(0)
        server.take()
        while server.stream.statistics().slots_in_use < 10:
            server.wait()  # until batches are granted as far ahead as allowed
        while select.select([server.stream.fileno()], [], [], 0.1)[0]:
            server.stream.advance()  # a worker wakes the stream once after a batch that was seen already
        assert server.stream.timeout_s() is None
        # The taken one and ten ahead; or nine, because a slot is granted only when there is room for more.
        assert server.stream.statistics().slots_in_use in {10, 11}


@pytest.mark.parametrize(
    ("address_space", "num_slots"), [(1 << 40, 10 + 10 + 256 + 2), (4 << 30, 64), (1 << 28, 10 + 10 + 8 + 2)]
)
def test_low_address_space_reduces_number_of_slots_not_their_size(monkeypatch, address_space, num_slots):
    monkeypatch.setattr("mpqueue.service.stream.making.largest_segment_bytes", lambda: address_space)
    with Server(Numbers(3)) as server:
        assert server.stream.statistics().num_slots == num_slots
        assert values(server.epoch(0)) == [0, 1, 2]


def test_dataset_that_drops_last_batch_drops_it_for_all_ranks():
    """10 samples make 3 full batches: each of 2 ranks gets one."""
    dataset = Dataset.range(10).batch(3, drop_last=True)
    assert make_stream(dataset, workers=1, world=2).length() == 2
    assert make_stream(dataset, workers=1, world=1).length() == 3
    words = "drop_last leaves no batch: there are 10 samples, and one batch for each rank needs 12"
    with pytest.raises(ValueError, match=words):
        make_stream(dataset, workers=1, world=4)


def test_two_processes_with_same_collate_function_have_same_job():
    """A restarted server reads the previous journal, and the function has another address in memory."""

    def made():
        def joined(samples):
            return samples

        return joined

    rules = Rules(mode=mode_of("split", None))
    one, other = (make_stream([1, 2], workers=1, batch_size=1, collate=made(), seed=3) for _ in range(2))
    assert job_of(one, rules) == job_of(other, rules)
    assert job_of(one, rules) != job_of(make_stream([1, 2], workers=1, batch_size=1, seed=3), rules)
