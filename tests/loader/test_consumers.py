"""Consumers that keep batches: views remain valid and unchanged until they are deleted, and no call hangs."""

import gc
import itertools
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from helpers.faults import Numbers, burns, numbers
from helpers.forked_calls import exit_at_once
from helpers.started_enqueuer import started
from helpers.trainer_processes import ran

from mpqueue import Loader


class Wide(Numbers):
    """A source with batches of 64 KiB; batch i consists of i."""

    def __getitem__(self, index):
        return np.full(1 << 13, index)


def whole(batch, index):
    return batch.shape == (1 << 13,) and bool((batch == index).all())


@pytest.mark.parametrize("ordered", [True, False])
def test_list_of_loader_has_all_batches(ordered):
    with Loader(Wide(400), workers=2, max_queue_size=4, ordered=ordered) as loader:
        for _ in range(2):
            kept = list(loader)
            assert sorted(int(batch[0]) for batch in kept) == list(range(400))
            assert all(whole(batch, batch[0]) for batch in kept)
            del kept
        assert loader.statistics().copies > 500  # the consumer keeps more batches than the ring has slots


def private_and_shared_bytes():
    """Return the memory of this process, including parts that other processes map."""
    memory = psutil.Process().memory_full_info()
    return memory.uss + memory.shared


@pytest.mark.measures
def test_ten_thousand_kept_batches_need_little_more_memory_than_their_arrays():
    """They need the same memory as equal arrays allocated by NumPy in the same process, because malloc rounds up."""
    with Loader(Wide(10_000), workers=2, max_queue_size=8) as loader:
        batches = iter(loader)
        kept = [next(batches) for _ in range(100)]  # warm-up: uses all slots for views
        sizes = [private_and_shared_bytes()]
        kept += batches
        sizes.append(private_and_shared_bytes())
        of_numpy = [np.full(1 << 13, index) for index in range(9_900)]
        sizes.append(private_and_shared_bytes())
        assert len(kept) == 10_000
        assert all(whole(batch, index) for index, batch in enumerate(kept))
        ring = loader.statistics().ring_bytes
        assert sizes[1] - sizes[0] <= 1.05 * (sizes[2] - sizes[1]) + 2 * ring
        assert loader.statistics().copies >= 9_900
        del kept, of_numpy


def test_one_old_view_blocks_no_batch_and_keeps_what_was_written_to_it():
    with started(Wide(50), 2, 4) as enqueuer:
        batches = enqueuer.get()
        old = next(batches)
        old[:] = -5
        old_part = old[100:200:7]
        del old
        for number in range(1, 2000):
            assert whole(next(batches), number % 50)
        assert (old_part == -5).all()
        assert enqueuer.statistics().copies == 0


def test_views_deleted_by_several_threads_are_unchanged_until_then():
    """The threads delete views; the consumer continues in the meantime."""
    kept, wrong, num_dropped = queue.SimpleQueue(), [], itertools.count()

    def drop():
        while (found := kept.get()) is not None:
            if not whole(found[1], found[0] % 50):
                wrong.append(found[0])
            next(num_dropped)

    with Loader(Wide(50), workers=2, max_queue_size=6) as loader, ThreadPoolExecutor(3) as pool:
        dropping = [pool.submit(drop) for _ in range(3)]
        for _ in range(20):
            for index, batch in enumerate(loader):
                kept.put((index, batch))
                del batch
        for _ in dropping:
            kept.put(None)
        for each in dropping:
            each.result(60)
    assert not wrong
    assert next(num_dropped) == 1000


def test_cycles_of_views_are_collected_and_slots_reused():
    """The garbage collector deletes a view in a cycle, at any moment."""
    with started(Wide(50), 2, 4) as enqueuer:
        batches = enqueuer.get()
        for number in range(1000):
            holder = [next(batches)]
            assert whole(holder[0], number % 50)
            holder.append(holder)
        del holder
        gc.collect()
        next(batches)
        assert enqueuer.statistics().slots_in_use <= 4 + 1 + 2


def test_views_outlive_stop_and_loader():
    loader = Loader(Wide(20), workers=2)
    batches = iter(loader)
    kept = [next(batches) for _ in range(15)]
    loader.stop()
    assert all(whole(batch, index) for index, batch in enumerate(kept))
    del loader, batches
    gc.collect()
    assert all(whole(batch, index) for index, batch in enumerate(kept))
    with Loader(Wide(20), workers=2) as other:  # uses separate memory
        assert len(list(other)) == 20
    assert all(whole(batch, index) for index, batch in enumerate(kept))


def test_memory_of_ring_exists_until_last_view():
    def mapped():
        with open("/proc/self/maps") as maps:
            return sum("/dev/shm/#" in line or "/dev/shm/psm_" in line or "/memfd:mpqueue" in line for line in maps)

    before = mapped()
    with Loader(Wide(20), workers=2) as loader:
        kept = next(iter(loader))
    assert mapped() == before + 1
    part = kept[5:6]
    del kept
    gc.collect()
    assert mapped() == before + 1
    assert part[0] == 0
    del part
    gc.collect()
    assert mapped() == before


@pytest.mark.usefixtures("forked_trainers")
def test_views_are_unchanged_at_interpreter_exit():
    said, output = ran("""
        import atexit
        class Wide(Numbers):
            def __getitem__(self, index):
                return np.full(1 << 13, index)
        class Last:
            def __init__(self, kept):
                self.kept = kept
            def __del__(self):
                os.write(1, b"whole" if all((b == n).all() for n, b in enumerate(self.kept)) else b"changed")
        loader = Loader(Wide(20), workers=2)
        batches = iter(loader)
        kept = [next(batches) for _ in range(12)]
        last = Last(kept)
        atexit.register(lambda: say("at exit", all((b == n).all() for n, b in enumerate(kept))))
    """)
    assert said == ["at exit True"]
    assert output == "whole"


@pytest.mark.parametrize("copy", [True, False])
def test_crashes_do_not_change_kept_batches(copy, tmp_path):
    """The slots of kept views are not reclaimed with the worker's slots."""

    class Dying(Wide):
        def __getitem__(self, index):
            if index % 5 == 3 and burns(f"{tmp_path}/{index}"):
                exit_at_once(1)
            return super().__getitem__(index)

    with Loader(Dying(40), workers=2, max_queue_size=4, copy=copy) as loader:
        kept = list(loader)
        assert all(whole(batch, index) for index, batch in enumerate(kept))
        assert loader.statistics().deaths >= 8
        assert numbers(iter([kept[3]]), 1) == [3]


def test_unordered_epoch_left_before_first_batch_is_not_resumed():
    """The next loop has a whole epoch, whatever was taken of the previous one."""
    go_on = threading.Event()

    class Waiting(Numbers):
        def __getitem__(self, index):
            assert index or go_on.wait(60)
            return super().__getitem__(index)

    with Loader(Waiting(8), workers=2, backend="thread", ordered=False) as loader:
        batches = iter(loader)
        assert 0 not in {int(next(batches)[0]) for _ in range(3)}
        loader.stop()
        go_on.set()
        assert sorted(int(batch[0]) for batch in loader) == list(range(8))
