"""Large arrays of a source are in shared memory once, for the fork server and all workers of a pool."""

import mmap
import os
import pickle
import resource

import numpy as np
import psutil
import pytest
from backends.test_fork_server import fork_servers
from helpers.faults import Numbers
from helpers.one_epoch import one_epoch
from helpers.signal_handlers import raising
from helpers.wrapped_functions import recorded

import mpqueue
from mpqueue import Loader, OrderedEnqueuer
from mpqueue.backends.sending.kept_source import NOTHING, keep, mapped
from mpqueue.backends.sending.source_send import take_image
from mpqueue.backends.start.launcher import ForkServer
from mpqueue.memory.snapshot import own_copies, reset

LARGE = 1 << 27


def arrays(count, nbytes=1 << 17):
    return [np.full(nbytes, number, np.uint8) for number in range(count)]


def kept(source, known=NOTHING):
    """Return the kept version of a source, and the numbers of the buffers that were copied for it."""
    image = take_image(source)
    patch = image.patch(known.find(image))
    return keep(patch, known), sorted(patch.new)


def received(version):
    fds = {number: snapshot.fileno() for number, snapshot in version.snapshots.items()}
    return pickle.loads(version.data, buffers=mapped(version.spans, fds))


def test_only_changes_are_copied():
    source = arrays(20)
    first, copied = kept(source)
    assert copied == list(range(20))
    assert first.is_same(take_image(source))
    source[7][-1] += 1
    assert not first.is_same(take_image(source))
    second, copied = kept(source, first)
    assert copied == [7]
    assert second.is_same(take_image(source))
    np.testing.assert_array_equal(received(second), source)
    assert received(first)[7][-1] == 7


@pytest.mark.parametrize("nbytes", [1 << 16, (1 << 18) + 5, (1 << 20) + 12])
def test_change_of_any_byte_is_detected(nbytes):
    array = np.zeros(nbytes + 3, np.uint8)[3:]
    version, _ = kept([array])
    for position in (0, 1, nbytes // 2, (1 << 18) % nbytes, nbytes - 1):
        array[position] = 1
        assert not version.is_same(take_image([array]))
        array[position] = 0
    assert version.is_same(take_image([array]))


def test_arrays_that_change_one_by_one_use_a_bounded_number_of_descriptors():
    source = arrays(100, 1 << 16)
    version, _ = kept(source)
    for number in range(100):
        source[number] += 100
        version, copied = kept(source, version)
        assert copied == [number]
        assert len(version.snapshots) <= 34
    np.testing.assert_array_equal(received(version), source)


def test_reset_restores_written_pages_and_keeps_pages_that_were_only_read():
    """A page that is dropped costs a page fault when it is read again."""
    (array,) = own_copies([memoryview(bytes(16 << 20))])
    read = array[: 12 << 20 : mmap.PAGESIZE]
    assert read.sum() == 0
    reset([array])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert read.sum() == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100
    array[-1] = 1
    reset([array])
    assert array[-1] == 0


class Data(Numbers):
    def __init__(self, nbytes=1 << 20):
        super().__init__(6)
        self.rows = np.ones(nbytes // 8)

    def __getitem__(self, index):
        return np.array([self.rows.sum()])


class Writing(Data):
    def __getitem__(self, index):
        self.rows += 1
        return np.array([self.rows.min(), self.rows.max(), os.getpid()])


def test_no_process_of_a_pool_has_a_private_copy():
    source = Data(LARGE)
    with Loader(source, workers=2) as loader:
        batches = list(loader)
        assert {batch[0] for batch in batches} == {LARGE / 8}
        sizes = [child.memory_full_info().uss for child in psutil.Process().children(recursive=True)]
        assert len(sizes) >= 3
        assert sum(sizes) < LARGE


@pytest.mark.sample(1)
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_changes_of_an_array_by_a_worker_are_private(start_method):
    source = Writing()
    batches = one_epoch(source, workers=2, start_method=start_method)
    for pid in {batch[2] for batch in batches}:
        levels = sorted((batch[0], batch[1]) for batch in batches if batch[2] == pid)
        assert levels == [(2.0 + count, 2.0 + count) for count in range(len(levels))]
    assert source.rows.max() == 1


class Accumulates(Numbers):
    """A source that writes to arrays of all sizes; the program changes an array between two epochs."""

    def __init__(self):
        super().__init__(3)
        self.level = 0
        self.small, self.large, self.changed = np.zeros(4), np.zeros(100_000), np.zeros(50_000)

    def __getitem__(self, index):
        arrays = self.small, self.large, self.changed
        for array in arrays:
            array += 1
        return np.concatenate([[os.getpid(), self.level], *(array[[0, -1]] for array in arrays)])


@pytest.mark.sample(1)
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_each_epoch_of_a_changed_source_begins_with_the_trainers_arrays(start_method):
    source = Accumulates()
    with Loader(source, workers=1, start_method=start_method) as loader:
        workers = set()
        for epoch in range(5):
            batches = np.stack(list(loader))
            workers |= set(batches[:, 0])
            for index, batch in enumerate(batches, 1):
                assert batch[1:].tolist() == [epoch, *[index] * 4, *[index + source.changed[0]] * 2]
            source.level += 1
            if epoch in (0, 2):  # after these epochs, the running worker gets the changed array
                source.changed += 10
        assert len(workers) == 1


def held():
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    names = (os.readlink(link) for link in links if os.path.lexists(link))  # not the descriptor of the folder
    return [name for name in names if "memfd:mpqueue" in name]


def test_parked_fork_server_keeps_the_memory_so_an_unchanged_source_is_not_copied_again(monkeypatch):
    sent = recorded(monkeypatch, ForkServer, "send_patch")
    source, before = Data(), held()  # caches of earlier tests
    with OrderedEnqueuer(source, True) as enqueuer:
        for change, copied in ((0, [[0]]), (0, []), (1, [[0]])):
            source.rows += change
            sent.clear()
            enqueuer.start(2)
            assert next(enqueuer.get())[0] == source.rows.sum()
            assert [sorted(patch.new) for _, patch in sent] == copied
            enqueuer.stop()
    assert len(held()) > len(before)
    mpqueue.shutdown()
    assert held() == before


def test_fork_server_that_exited_while_parked_is_replaced_with_its_memory():
    source = Data()
    with OrderedEnqueuer(source, True) as enqueuer:
        for _ in range(2):
            enqueuer.start(1)
            assert next(enqueuer.get())[0] == source.rows.sum()
            enqueuer.stop()
            for parked in fork_servers():
                parked.kill()
    mpqueue.shutdown()


def test_too_little_shared_memory_for_the_source_is_an_error_with_the_size(monkeypatch):
    monkeypatch.setattr(os, "pwrite", raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="cannot copy 1,048,576 bytes of the source into shared memory"):
        one_epoch(Data(), workers=2)
