"""Children that user code forks in a worker, and that return from there or raise, are not workers."""

import asyncio
import os
import sys
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import AtOnce, Computed
from helpers.coroutines import give_way
from helpers.one_epoch import one_epoch
from helpers.quiet_trainers import lines_of

import mpqueue

pytestmark = [pytest.mark.slow, pytest.mark.shared_fork_server]

AT, LENGTH = 3, 8
BACKENDS = {"forkserver": {}, "fork": {"start_method": "fork"}, "thread": {"backend": "thread"}}
backends = pytest.mark.parametrize("options", BACKENDS.values(), ids=BACKENDS)
ENDS = {"returns": 0, "raises": 1, "leaves": 8, "ends": 0, "awaits": 1}


def fork(how="returns"):
    """Fork; return True in the child, or end there otherwise; the parent waits for the end of the child."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == ENDS[how], status
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its traceback
    if how == "raises":
        raise ValueError
    if how == "leaves":
        sys.exit(8)
    return True


def item(index, how="returns"):
    return -1 if index == AT and fork(how) else index


def items(how="returns", make=Computed):
    return make(partial(item, how=how), LENGTH)


def collate(samples):
    return -np.stack(samples) if samples[0] == 0 and fork() else np.stack(samples)


def elements(how="returns"):
    for index in range(LENGTH):
        number = item(index, how)
        if number < 0 and how == "ends":
            return
        yield number


class InThreads(AtOnce):
    thread_safe = True


class Awaited(Computed):
    async def __getitem__(self, index):
        return await self.function(index)


async def coroutine(index, how="returns"):
    number = item(index, how)
    if how == "awaits":
        await give_way()
    return number


async def with_tasks(index):
    number, _ = await asyncio.gather(coroutine(index, "raises"), give_way())
    return number


async def with_a_callback(index):
    asyncio.get_running_loop().call_soon(item, index)
    await give_way(2)
    return index


async def asynchronous_elements():
    for index in range(LENGTH):
        yield item(index)


def awaited(how):
    return Awaited(partial(coroutine, how=how), LENGTH)


def mapped(threads, how="returns"):
    return mpqueue.Dataset.range(LENGTH).map(partial(item, how=how), threads=threads)


def streamed(threads):
    return mpqueue.Dataset(partial(range, LENGTH)).map(item, threads=threads)


SKIPPING = {"batch_size": 4, "on_error": "skip"}
SOURCES = {
    "item": (items, {}),
    "item that raises": (partial(items, "raises"), {}),
    "item that leaves": (partial(items, "leaves"), {}),
    "sample": (items, {"batch_size": 4}),
    "sample left out": (items, SKIPPING),
    "sample left out that raises": (partial(items, "raises"), SKIPPING),
    "sample left out that leaves": (partial(items, "leaves"), SKIPPING),
    "sample in threads": (items, {"batch_size": 4, "threads": 2}),
    "samples": (partial(items, make=AtOnce), {"batch_size": 4}),
    "samples in threads": (partial(items, make=InThreads), {"batch_size": 4, "threads": 2}),
    "collate": (items, {"batch_size": 2, "collate": collate}),
    "element": (lambda: elements, {}),
    "element that raises": (lambda: partial(elements, "raises"), {}),
    "element that ends it": (lambda: partial(elements, "ends"), {}),
    "element of a batch": (lambda: elements, {"batch_size": 4}),
    "stage": (partial(mapped, 1), {"batch_size": 4}),
    "stage left out that raises": (partial(mapped, 1, "raises"), SKIPPING),
    "coroutine": (partial(awaited, "returns"), {"batch_size": 4}),
    "coroutine that raises": (partial(awaited, "raises"), {"batch_size": 4}),
    "coroutine that leaves": (partial(awaited, "leaves"), SKIPPING),
    "coroutine that awaits": (partial(awaited, "awaits"), {"batch_size": 4}),
    "coroutine with tasks": (lambda: Awaited(with_tasks, LENGTH), {"batch_size": 4}),
    "coroutine with a callback": (lambda: Awaited(with_a_callback, LENGTH), {"batch_size": 4}),
    "coroutine of a batch": (partial(awaited, "returns"), {}),
    "coroutine of an element": (lambda: asynchronous_elements, {}),
    "coroutine of a stage": (lambda: mpqueue.Dataset.range(LENGTH).map(coroutine, concurrency=2), {"batch_size": 4}),
    "stage in threads": (partial(mapped, 2), {"batch_size": 4}),
    "stage of a stream": (partial(streamed, 1), {"lanes": 1}),
    "stage of a stream in threads": (partial(streamed, 2), {"lanes": 1}),
}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *((BACKENDS["forkserver"], name) for name in SOURCES),
        *(
            (BACKENDS["thread"], name)
            for name in SOURCES
            if name.endswith(("item", "sample", "threads", "element", "leaves"))
        ),
        *((BACKENDS["fork"], name) for name in ("item", "element that raises")),
        *((options, name) for options in (BACKENDS["thread"], {"workers": 0}) for name in SOURCES if "corou" in name),
    ],
)
def test_child_yields_no_batch_and_exits(name, options):
    make, asked = SOURCES[name]
    with mpqueue.Loader(make(), **({"workers": 1, "seed": 0} | options | asked)) as loader:
        found = [np.ravel(batch).tolist() for batch in loader]
        assert [number for numbers in found for number in numbers] == list(range(LENGTH))
        statistics = loader.statistics()
        assert (statistics.deaths, statistics.retries, statistics.skipped) == (0, 0, 0)


@pytest.mark.parametrize("how", ["returns", "leaves"])
def test_child_of_a_thread_exits_beside_torch(how):
    """A hook of the package informs torch that a forked child is not a worker."""
    pytest.importorskip("torch")
    with mpqueue.Loader(items(how), workers=1, backend="thread", seed=0, **SKIPPING) as loader:
        assert np.concatenate(list(loader)).ravel().tolist() == list(range(LENGTH))
        assert loader.statistics().skipped == 0


def init():
    fork()


async def init_in_a_coroutine():
    fork()


@backends
@pytest.mark.parametrize("init", [init, init_in_a_coroutine])
def test_child_of_worker_init_exits(init, options):
    with mpqueue.Loader(list(range(4)), workers=1, worker_init=init, **options) as loader:
        assert [int(batch) for batch in loader] == [0, 1, 2, 3]
        assert loader.statistics().deaths == 0


class ForksWhenUnpickled(list):
    how = "returns"

    def __setstate__(self, state):
        self.__dict__.update(state)
        fork(self.how)


@pytest.mark.parametrize(("method", "how"), [("forkserver", "returns"), ("forkserver", "raises"), ("spawn", "raises")])
def test_child_of_unpickling_the_source_exits(method, how):
    source = ForksWhenUnpickled(range(4))
    source.how = how
    with mpqueue.Loader(source, workers=1, start_method=method) as loader:
        assert [int(batch) for batch in loader] == [0, 1, 2, 3]
        source.new = True  # sent again, to running workers
        assert [int(batch) for batch in loader] == [0, 1, 2, 3]
        assert loader.statistics().deaths == 0


class Reduced(Exception):
    def __reduce__(self):
        return int, (-1 if fork() else 5,)


def fail(_):
    raise Reduced


def test_child_of_pickling_a_batch_or_an_error_exits():
    assert one_epoch(Computed(lambda _: Reduced(), 1), workers=1) == [5]
    with mpqueue.Loader(Computed(fail, 1), workers=1) as loader:
        with pytest.raises(Reduced):  # pickled by its parts
            list(loader)
        assert loader.statistics().deaths == 0


@pytest.mark.usefixtures("forked_trainers")
def test_child_that_a_library_forks_without_python_exits(tmp_path):
    """Python's fork hooks do not run in it."""
    said = lines_of("""
        import ctypes
        class Library(Numbers):
            def __getitem__(self, index):
                if index == 3:
                    child = ctypes.PyDLL(None).fork()
                    if child == 0:
                        return np.full(64, -1)
                    os.waitpid(child, 0)
                return super().__getitem__(index)
        with Loader(Library(), workers=1) as loader:
            say([int(batch[0]) for batch in loader], loader.statistics().retries)
    """)
    assert said == ["[0, 1, 2, 3, 4, 5, 6, 7] 0"]
