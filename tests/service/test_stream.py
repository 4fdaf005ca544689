"""The engine as a server drives it: real workers, and a loop that waits for descriptors only."""

import logging
import mmap
import os
import select

import numpy as np
import pytest
from helpers.faults import Fault, Growing, Numbers, StrikesAt

import mpqueue
from mpqueue import Dataset, Loader
from mpqueue.errors import SharedMemoryFull, WorkerDied
from mpqueue.memory.layout import ReadSpec, base_over
from mpqueue.plan.cursors import Place
from mpqueue.service.journal import job_of
from mpqueue.service.records import PARTIAL
from mpqueue.service.rules import check_rules
from mpqueue.service.stream import Failure, Stream

DEADLOCK_S = 60


class Reader:
    """What a consumer does: it has the ring for reading, and rebuilds batches."""

    def __init__(self, stream):
        self.ring = stream.ring
        self.memory = mmap.mmap(stream.ring.read_only_fd, stream.ring.nbytes, prot=mmap.PROT_READ)

    def read(self, lot):
        """A private copy of a lot's tree."""
        spec, start = ReadSpec(lot.spec), lot.slot.number * self.ring.stride
        recipe = spec.recipes[self.memory[start + lot.header_offset : start + lot.nbytes]]
        data = base_over(self.memory, start, lot.header_offset, None).copy()
        tree = spec.rebuild(recipe, base_over(data, 0, len(data), recipe.structure))
        return tree[0] if lot.flags & PARTIAL else tree


class Server:
    """A loop over one stream."""

    def __init__(self, source, **options):
        self.stream = Stream(source, **{"workers": 2, "seed": 5, **options})
        self.stream.start()
        self.reader = Reader(self.stream)

    def wait(self):
        """Until the workers have something to say, or it is time to look after them."""
        timeout_s = self.stream.timeout_s()
        ready = select.select([self.stream.fileno()], [], [], DEADLOCK_S if timeout_s is None else timeout_s)[0]
        assert ready or timeout_s is not None, "nothing happens any more"
        self.stream.advance()

    def take(self, **options):
        """The next lot or failure; None at the end of the epoch."""
        while (given := self.stream.take(**options)) is None and not self.stream.has_ended:
            self.wait()
        return given

    def take_extra(self):
        while (given := self.stream.take(is_wanted=False)) is None:
            self.wait()
        return given

    def value(self, given):
        """What a batch is full of, or the error; its slot is free then."""
        if isinstance(given, Failure):
            return given.error
        batch = self.reader.read(given)
        self.stream.share(given)
        self.stream.release(given)
        return int(np.asarray(batch).flat[0])

    def epoch(self, number):
        """The batches of an epoch, as (position, value)."""
        self.stream.open_epoch(number)
        given = []
        while (one := self.take()) is not None:
            given.append((one.position, self.value(one)))
        self.stream.finish_epoch()
        return given

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.stop()


def values(given):
    return [value for _, value in given]


def of_loader(source, epochs, **options):
    """What a Loader gives."""
    with Loader(source, **{"workers": 2, "seed": 5, **options}) as loader:
        return [[int(np.asarray(batch).flat[0]) for batch in loader] for _ in range(epochs)]


# -- Order


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "max_queue_size": 2, "workers": 1}])
def test_it_gives_the_batches_of_a_loader_epoch_after_epoch(options):
    expected = of_loader(Numbers(13), 3, **options)
    with Server(Numbers(13), **options) as server:
        for epoch in range(3):
            given = server.epoch(epoch)
            assert [position for position, _ in given] == list(range(13))
            assert values(given) == expected[epoch]
            assert server.stream.count == 13


class Samples:
    def __len__(self):
        return 21

    def __getitem__(self, index):
        return np.array([index, np.random.randint(1 << 30)])


def test_samples_of_all_ranks_are_those_of_loaders_with_a_shard():
    options = {"batch_size": 4, "shuffle": True, "seed": 5}
    ranks = []
    for rank in range(2):
        with Loader(Samples(), workers=1, shard=(rank, 2), **options) as loader:
            ranks.append([batch.copy() for batch in loader])
    with Server(Samples(), world=2, **options) as server:
        assert server.stream.open_epoch(0) == 6
        for number in range(6):
            lot = server.take()
            assert np.array_equal(server.reader.read(lot), ranks[number % 2][number // 2])
            server.stream.release(lot)


def test_it_goes_on_at_a_place():
    with Server(Numbers(10), shuffle=True, place=Place(1, 4, (5, 8))) as server:
        given = server.epoch(1)
        following = server.epoch(2)
    expected = of_loader(Numbers(10), 3, shuffle=True)
    assert given == [(position, expected[1][position]) for position in (4, 6, 7, 9)]
    assert values(following) == expected[2]


def test_an_epoch_that_is_left_on_its_way_is_abandoned():
    with Server(Numbers(50)) as server:
        server.stream.open_epoch(0)
        first = server.take()
        server.stream.open_epoch(1)
        assert values(server.epoch(1)) == [*range(50)]
        assert server.value(first) == 0


def test_the_epoch_end_is_run_when_it_is_asked_for_and_not_before():
    source = Growing(4)
    with Server(source) as server:
        server.stream.open_epoch(0)
        lots = [server.take() for _ in range(4)]
        assert server.take() is None
        server.stream.advance()
        assert source.epoch == 0
        server.stream.finish_epoch()
        assert source.epoch == 1
        assert values(server.epoch(1)) == [100, 101, 102, 103]
        assert [server.value(lot) for lot in lots] == [0, 1, 2, 3]


# -- Positions that are computed again


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"batch_size": 2, "shuffle": True}, {"sampler": [5, 3, 2, 7, 0, 1]}, {"world": 4}]
)
def test_positions_are_computed_again_beside_the_order(options):
    with Server(Numbers(11), **options) as server:
        server.stream.open_epoch(0)
        given = [server.value(server.take()) for _ in range(4)]
        server.stream.recompute(0, [2, 0, 3])
        again = [server.take_extra() for _ in range(3)]
        assert [(lot.epoch, lot.position, lot.is_extra) for lot in again] == [(0, 2, True), (0, 0, True), (0, 3, True)]
        assert [server.value(lot) for lot in again] == [given[2], given[0], given[3]]
        following = server.take()
        assert (following.position, following.is_extra) == (4, False)


def test_positions_are_computed_again_after_the_last_one_and_while_the_next_epoch_is_prepared():
    with Server(Numbers(6), shuffle=True) as server:
        server.epoch(0)
        server.stream.open_epoch(1)
        given = [server.value(server.take()) for _ in range(6)]
        assert server.take() is None
        server.stream.recompute(1, range(6))
        assert [server.value(server.take_extra()) for _ in range(6)] == given
        server.stream.finish_epoch()
        assert len(server.epoch(2)) == 6


def test_many_positions_are_computed_again_while_nobody_takes_what_is_due():
    with Server(Numbers(100), max_queue_size=3) as server:
        server.stream.open_epoch(0)
        for _ in range(50):
            server.value(server.take())
        server.stream.recompute(0, range(50))
        assert [server.value(server.take_extra()) for _ in range(50)] == list(range(50))
        assert server.take().position == 50


# -- Holders


def test_what_is_held_is_never_written_again():
    """All slots are used many times over, but those that are held."""
    with Server(Numbers(600), num_kept=4, max_queue_size=2) as server:
        server.stream.open_epoch(0)
        held = [server.take() for _ in range(4)]
        for lot in held:
            server.stream.share(lot)
        assert [server.value(server.take()) for _ in range(596)] == list(range(4, 600))
        assert [int(server.reader.read(lot)[0]) for lot in held] == [0, 1, 2, 3]


def test_when_all_slots_are_held_it_goes_on_with_the_first_that_comes_free():
    with Server(Numbers(40), num_kept=0, max_queue_size=1, workers=1) as server:
        stream = server.stream
        stream.open_epoch(0)
        held = []
        while stream.statistics().slots_in_use < stream.statistics().num_slots or len(held) < 3:
            lot = server.take()
            stream.share(lot)
            held.append(lot)
        assert stream.take() is None
        for lot in held:
            stream.release(lot)
        assert server.take().position == len(held)


def test_when_all_slots_are_held_by_those_who_wait_it_is_an_error():
    with Server(Numbers(40), num_kept=0, max_queue_size=1, workers=1) as server:
        server.stream.open_epoch(0)
        held = []
        while not isinstance(given := server.take(may_fail=True), Failure):
            server.stream.share(given)
            held.append(given)
        assert isinstance(given.error, SharedMemoryFull)
        assert len(held) == server.stream.statistics().num_slots
        for lot in held:
            server.stream.release(lot)
        assert server.take().position == given.position + 1


# -- Faults


def test_a_batch_that_kills_its_workers_is_an_error_in_its_place(caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    with Server(StrikesAt(Fault("sigkill"), at=3), restarts=1) as server:
        given = server.epoch(0)
        assert [position for position, _ in given] == list(range(8))
        assert isinstance(given[3][1], WorkerDied)


def test_batches_of_which_nothing_is_left_are_left_out(caplog):
    caplog.set_level(logging.CRITICAL, "mpqueue")
    for options in ({}, {"batch_size": 1}):
        source = StrikesAt(Fault("raise"), at=2, length=5)
        with Server(source, on_error="skip", workers=1, **options) as server:
            server.stream.open_epoch(0)
            lots = [server.take() for _ in range(4)]
            assert [lot.position for lot in lots] == [0, 1, 3, 4]
            for lot in lots:
                server.stream.release(lot)
            assert server.take() is None
            server.stream.recompute(0, [2])
            assert server.take_extra() == Failure(0, 2, None, is_extra=True)
            assert server.stream.statistics().slots_in_use == 0


class HasNoLength(Numbers):
    def __len__(self):
        if os.path.exists(self.length):
            return 2
        raise OSError("no index")


def test_a_source_without_a_length_is_asked_again(tmp_path):
    ready = tmp_path / "ready"
    ready.touch()
    with Server(HasNoLength(str(ready)), workers=1) as server:
        assert len(server.epoch(0)) == 2
        ready.unlink()
        server.stream.open_epoch(1)
        failure = server.take()
        assert (failure.position, str(failure.error)) == (-1, "no index")
        assert server.stream.take() is None  # not before a while is over
        assert 0 < server.stream.timeout_s() <= 1
        while server.stream.timeout_s() is not None:
            server.wait()
        ready.touch()
        assert [server.take().position for _ in range(2)] == [0, 1]


# -- Life


def test_the_ring_can_be_read_and_not_written():
    with Server(Numbers(3)) as server:
        with pytest.raises(PermissionError):
            mmap.mmap(server.stream.ring.read_only_fd, 4096)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(server.stream.ring.read_only_fd, b"x", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "thread"}, "leave out backend='thread'"),
        ({"workers": 0}, "leave out workers=0"),
        ({"shard": "auto"}, "leave out shard"),
        ({"copy": True}, "writable"),
    ],
)
def test_options_that_mean_nothing_to_a_server_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mpqueue.Server("numbers", Numbers(), **{"workers": 1, **options})


@pytest.mark.parametrize(
    ("address_space", "num_slots"), [(1 << 40, 10 + 10 + 256 + 2), (4 << 30, 64), (1 << 28, 10 + 10 + 8 + 2)]
)
def test_where_address_space_is_short_slots_are_fewer_and_not_smaller(monkeypatch, address_space, num_slots):
    monkeypatch.setattr("mpqueue.service.plan.largest_segment_bytes", lambda: address_space)
    with Server(Numbers(3)) as server:
        assert server.stream.statistics().num_slots == num_slots
        assert values(server.epoch(0)) == [0, 1, 2]


def test_a_dataset_that_drops_its_last_batch_drops_it_for_all_ranks():
    """Of 10 samples there are 3 full batches, of which each of 2 ranks gets one."""
    dataset = Dataset.range(10).batch(3, drop_last=True)
    assert Stream(dataset, workers=1, world=2).length() == 2
    assert Stream(dataset, workers=1, world=1).length() == 3
    with pytest.raises(
        ValueError, match="drop_last leaves no batch: there are 10 samples, and one batch for each rank takes 12"
    ):
        Stream(dataset, workers=1, world=4)


def test_two_processes_with_the_same_collate_function_have_the_same_job():
    """A restarted server reads the journal of the one before, in whose memory the function was elsewhere."""

    def made():
        def joined(samples):
            return samples

        return joined

    rules = check_rules(mode="split", world=None, slow="wait", grace_s=1, lease_timeout=None, window=1)
    one, other = (Stream([1, 2], workers=1, batch_size=1, collate=made(), seed=3) for _ in range(2))
    assert job_of(one, rules) == job_of(other, rules)
    assert job_of(one, rules) != job_of(Stream([1, 2], workers=1, batch_size=1, seed=3), rules)
