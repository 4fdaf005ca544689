"""Asynchronous sources: the coroutines of a worker run in its event loop, and the stream is the same as with others."""

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import signal
import sys
import threading
import time

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.coroutines import Awaited, end_out_of_order, give_way, until_cancelled
from helpers.faults import burns
from helpers.gates import Gate, pass_gate
from helpers.injected_exceptions import Struck, each_strike
from helpers.loader_runs import batches_of, plain
from helpers.waits import until

import mpqueue
from mpqueue import Dataset, Loader
from mpqueue.errors import BatchTimeout, WorkerDied, WorkerRaised
from mpqueue.worker.concurrency import event_loop

pytestmark = pytest.mark.sample(1)

backends = pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (2, "process"), (2, "thread")])
SIZE = 4


class Samples:
    """Samples that are a number and three draws."""

    length = 24

    def __len__(self):
        return self.length

    async def __getitem__(self, index):
        await self.at_work(index)
        info = mpqueue.worker_info()
        return index, mpqueue.rng().random(3), info.num_workers

    async def at_work(self, index):
        await end_out_of_order(index)


class Batches(mpqueue.Sequence):
    def __len__(self):
        return 12

    async def __getitem__(self, index):
        await end_out_of_order(index)
        return np.full(3, index), mpqueue.rng().random(3)


PLAIN = Computed(int, 24)


def taken(loader, columns=2):
    return [plain(batch[:columns]) for batch in loader]


class Meeting(Samples):
    """Samples that wait until a number of samples have started."""

    def __init__(self, together, length=24):
        self.together, self.length, self.num_begun, self.most = together, length, 0, 0

    async def at_work(self, index):
        self.num_begun += 1
        while self.num_begun < self.together:  # each of them runs in this event loop
            await give_way()


def test_samples_in_flight_cross_the_borders_of_batches():
    """Two batches of two are in the queue; ten samples must begin before the third one can end."""

    class Later(Meeting):
        async def at_work(self, index):
            if index >= 2:  # the first batch has no look-ahead
                await super().at_work(index)

    with Loader(Later(10), batch_size=2, workers=1, concurrency=10, max_queue_size=2) as loader:
        assert [batch[0].tolist() for batch in loader] == [[first, first + 1] for first in range(0, 24, 2)]


class Counts(Samples):
    """Samples that record how many run at once, and how many have started."""

    length = 400

    def __init__(self):
        self.now = self.most = self.begun = 0

    async def __getitem__(self, index):
        self.now, self.begun = self.now + 1, self.begun + 1
        self.most = max(self.most, self.now)
        await give_way()
        self.now -= 1
        return index, self.most, self.begun


@pytest.mark.parametrize("concurrency", [1, 3])
def test_number_of_samples_in_flight_is_bounded(concurrency):
    with Loader(Counts(), batch_size=SIZE, workers=1, concurrency=concurrency) as loader:
        batches = [plain(batch) for batch in loader]
    assert max(max(most) for _, most, _ in batches) == concurrency
    # A sample that ends was not taken yet, and no later one either: that many have started, and wait for their turn.
    ahead = [np.subtract(begun, indices).max() for indices, _, begun in batches]
    assert max(ahead) <= 4 * concurrency


class Raises(Samples):
    def __init__(self, raised):
        self.raised = raised

    async def at_work(self, index):
        await give_way()
        if index == 6:
            await self.raised()


class RaisesAtOnce(Raises):
    async def __getitems__(self, indices):
        return [await self[index] for index in indices]


async def value_error():
    raise ValueError("cannot be read")


async def cancelled():
    raise asyncio.CancelledError("given up")


async def cancels_itself():
    asyncio.current_task().cancel()
    await give_way()


async def exception_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(value_error())


async def nested_run():
    coroutine = give_way()
    try:
        asyncio.run(coroutine)
    finally:
        coroutine.close()


async def closes_loop():
    asyncio.get_running_loop().close()


async def exits():
    sys.exit(3)


def outcomes(loader):
    """Return the numbers of each batch, or its error."""
    found, batches = [], iter(loader)
    while True:
        try:
            found.append(next(batches)[0].tolist())
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


def whole(number):
    return list(range(SIZE * number, SIZE * number + SIZE))


@backends
@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (value_error, ValueError, "cannot be read"),
        (cancelled, RuntimeError, "CancelledError"),
        (cancels_itself, RuntimeError, "CancelledError"),
        (exception_group, ExceptionGroup, "unhandled errors in a TaskGroup"),
        (nested_run, RuntimeError, "running event loop"),
        (closes_loop, RuntimeError, "close a running event loop"),
        (exits, WorkerRaised, "SystemExit"),
    ],
)
def test_error_replaces_one_batch(raised, kind, text, workers, backend):
    with Loader(Raises(raised), batch_size=SIZE, workers=workers, backend=backend) as loader:
        first, error, *rest = outcomes(loader)
    assert [first, *rest] == [whole(number) for number in (0, 2, 3, 4, 5)]
    assert type(error) is kind
    assert text in str(error)


@backends
def test_stopping_the_loop_loses_nothing(workers, backend):
    async def stop():
        asyncio.get_running_loop().stop()

    with Loader(Raises(stop), batch_size=SIZE, workers=workers, backend=backend) as loader:
        assert outcomes(loader) == [whole(number) for number in range(6)]


@backends
@pytest.mark.parametrize("source", [Raises, RaisesAtOnce])
def test_sample_that_raises_is_skipped(source, workers, backend):
    options = {"batch_size": SIZE, "on_error": "skip"}
    with Loader(source(value_error), workers=workers, backend=backend, **options) as loader:
        assert outcomes(loader) == [whole(0), [4, 5, 7], *[whole(number) for number in range(2, 6)]]
        assert loader.statistics().skipped == 1


class KillsOnce(Samples):
    length = 1200

    def __init__(self, fuse):
        self.fuse = fuse

    async def at_work(self, index):
        await asyncio.sleep(0.002)  # longer than a worker needs to begin hundreds
        if index == 600 and burns(self.fuse):
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_with_hundreds_in_flight_changes_nothing(tmp_path):
    options = {"batch_size": SIZE, "seed": 1, "concurrency": 500}
    with Loader(Samples(), workers=0, **options) as loader:
        loader.source.length = 1200
        expected = taken(loader)
    with Loader(KillsOnce(str(tmp_path / "fuse")), workers=2, **options) as loader:
        assert taken(loader) == expected
        assert loader.statistics().deaths == 1


class Kills(Samples):
    async def at_work(self, index):
        if index == 3 * SIZE + 1:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "backend": "thread"}])
def test_interrupt_anywhere_loses_and_repeats_nothing(options):
    for after, strike in each_strike(17, least=1000):
        with Loader(Awaited(int, 12), batch_size=2, concurrency=4, shuffle=False, **options) as loader:
            batches, found = None, []
            with strike:
                while len(found) < 12:
                    with contextlib.suppress(Struck):
                        batches = batches or iter(loader)
                        for batch in batches:
                            found.append(batch.tolist())
                            del batch
                        batches = None
            assert found == [[n, n + 1] for n in range(0, 12, 2)] * 2, after


@pytest.mark.parametrize(("workers", "restarts"), [(1, 0), (1, 3), (2, 1)])
def test_sample_that_kills_early_fails_only_its_batch(workers, restarts):
    with Loader(Kills(), batch_size=SIZE, workers=workers, restarts=restarts) as loader:
        found = outcomes(loader)
    assert [type(each) for each in found].count(WorkerDied) == 1
    assert found[3].index == 3
    assert [*found[:3], *found[4:]] == [whole(number) for number in (0, 1, 2, 4, 5)]


class Hangs(Samples):
    def __init__(self, fuse=None):
        self.fuse = fuse

    async def at_work(self, index):
        if index == 6 and (self.fuse is None or burns(self.fuse)):
            await until_cancelled()


def test_sample_that_hangs_once_is_computed_again_by_a_worker_that_goes_on(tmp_path, caplog):
    source = Hangs(str(tmp_path / "fuse"))
    with Loader(source, batch_size=SIZE, workers=1, batch_timeout=0.3, restarts=1) as loader:
        assert outcomes(loader) == [whole(number) for number in range(6)]
        assert loader.statistics().deaths == 0
    (told,) = [record.getMessage() for record in caplog.records]
    assert "computed again" in told
    assert "the sample of index 6, at place 6 of the epoch" in told


@backends
def test_error_names_the_sample_that_hangs(workers, backend):
    options = {"batch_timeout": 0.3, "restarts": 1}
    with Loader(Hangs(), batch_size=SIZE, workers=workers, backend=backend, **options) as loader:
        found = outcomes(loader)
    assert type(found[1]) is BatchTimeout
    assert "the sample of index 6" in str(found[1])
    assert "at_work" in str(found[1]), "the stack is missing"
    assert [found[0], *found[2:]] == [whole(number) for number in (0, 2, 3, 4, 5)]


class Stubborn(Samples):
    """A sample that ignores that it is cancelled."""

    async def at_work(self, index):
        while index == 6:
            try:
                await until_cancelled()
            except asyncio.CancelledError:
                continue


def test_worker_with_a_task_that_does_not_end_is_replaced():
    with Loader(Stubborn(), batch_size=SIZE, workers=1, batch_timeout=0.2, restarts=0) as loader:
        found = outcomes(loader)
        assert loader.statistics().deaths == 1
    assert type(found[1]) is BatchTimeout
    assert [found[0], *found[2:]] == [whole(number) for number in (0, 2, 3, 4, 5)]


class Blocks(Samples):
    async def at_work(self, index):
        if index in (6, 10):
            time.sleep(1.7)  # noqa: ASYNC251 - the fault that is reported


@backends
def test_call_that_blocks_the_loop_is_told_once(workers, backend, caplog):
    options = {"workers": workers, "backend": backend, "concurrency": 4}
    with caplog.at_level(logging.WARNING, "mpqueue"), Loader(Blocks(), batch_size=SIZE, **options) as loader:
        assert outcomes(loader) == [whole(number) for number in range(6)]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "has blocked the event loop" in told[0]
    assert f"{__file__}:" in told[0].partition(" has blocked")[0]
    assert "at_work" in told[0]


class Session:
    """A client session: it belongs to the loop that created it."""

    def __init__(self, path):
        self.path, self.loop = path, asyncio.get_running_loop()

    async def aclose(self):
        assert asyncio.get_running_loop() is self.loop
        with open(self.path, "a") as file:  # noqa: ASYNC230 - a short one
            file.write("closed\n")


class Client(Samples):
    def __init__(self, path):
        self.path, self.session = path, None

    async def at_work(self, index):
        if self.session is None:
            self.session = Session(self.path)
        assert asyncio.get_running_loop() is self.session.loop
        if index == 3:  # a task that outlives the sample, as clients have for their connections
            self.left = asyncio.create_task(until_cancelled())


class ClosesItself(Client):
    async def aclose(self):
        await asyncio.sleep(0.4)  # a worker without coroutines has 0.2 s for its end
        await self.session.aclose()
        self.session = None


@backends
@pytest.mark.parametrize("kind", [Client, ClosesItself])
def test_source_is_closed_in_its_loop(kind, workers, backend, tmp_path):
    path = tmp_path / "closed"
    with Loader(kind(str(path)), batch_size=SIZE, workers=workers, backend=backend) as loader:
        assert outcomes(loader) == [whole(number) for number in range(6)]
        assert not path.exists()
    assert path.read_text().count("closed") == max(1, workers if backend == "process" else 1)


def test_source_is_closed_before_another_state_of_it_is_loaded(tmp_path):
    path = tmp_path / "closed"
    source = Client(str(path))
    source.version = 0
    with Loader(source, batch_size=SIZE, workers=1) as loader:
        list(loader)
        assert not path.exists()
        source.version = 1
        list(loader)
        assert path.read_text().count("closed") == 1
    assert path.read_text().count("closed") == 2


def test_source_stays_picklable_without_workers(tmp_path):
    source = ClosesItself(str(tmp_path / "closed"))
    batches_of(source, batch_size=SIZE, workers=0)
    del source.left
    assert isinstance(pickle.loads(pickle.dumps(source)), ClosesItself)


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_worker_init_may_be_a_coroutine_function(backend, tmp_path):
    source = Client(str(tmp_path / "closed"))

    with Gate() as gate:

        async def init(gate=gate.address):
            (tmp_path / str(mpqueue.worker_info().id)).touch()
            source.session = Session(source.path)
            await asyncio.to_thread(pass_gate, gate)  # until both workers are here: one could compute all batches

        with Loader(source, batch_size=SIZE, workers=2, backend=backend, worker_init=init) as loader:
            batches = iter(loader)
            for arrival in [gate.arrival(), gate.arrival()]:
                arrival.let_go()
            list(batches)
    assert (tmp_path / "0").exists()
    assert (tmp_path / "1").exists()


def test_loader_works_inside_a_running_loop():
    async def main():
        return batches_of(Samples(), batch_size=SIZE, workers=0)

    assert [indices for indices, *_ in asyncio.run(main())] == [whole(number) for number in range(6)]


def test_loop_ends_with_its_last_user():
    with Loader(Samples(), batch_size=SIZE, workers=0) as loader:
        list(loader)
        assert any(thread.name == event_loop.THREAD_NAME for thread in threading.enumerate())
    del loader
    gc.collect()
    until(lambda: all(thread.name != event_loop.THREAD_NAME for thread in threading.enumerate()), "the loop remains")


async def numbers():
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 20, info.num_shards):
        await give_way()
        yield number, mpqueue.rng().random()


def plain_numbers():
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 20, info.num_shards):
        yield number, mpqueue.rng().random()


class Iterable:
    async def __aiter__(self):
        async for pair in numbers():
            yield pair


@backends
@pytest.mark.parametrize("function", [numbers, Iterable])
@pytest.mark.parametrize("options", [{}, {"batch_size": 3}])
def test_asynchronous_generator_is_a_stream(function, options, workers, backend):
    options = options | {"lanes": 4, "seed": 1, "epochs": 2}
    found = batches_of(function, workers=workers, backend=backend, **options)
    assert found == batches_of(plain_numbers, workers=0, **options)


async def doubled(number):
    await end_out_of_order(number)
    return 2 * number


async def several(number):
    for item in range(number % 3):
        await give_way()
        yield number, item, mpqueue.rng().random()


def plain_several(number):
    for item in range(number % 3):
        yield number, item, mpqueue.rng().random()


TWENTY = Dataset(range(20))
STAGES = {
    "flat_map": (TWENTY.flat_map(several), TWENTY.flat_map(plain_several)),
    "generator": (Dataset(numbers).map(tuple), Dataset(plain_numbers).map(tuple)),
}


@backends
@pytest.mark.parametrize("name", STAGES)
def test_stages_of_a_dataset(name, workers, backend):
    dataset, same = STAGES[name]
    found = batches_of(dataset, workers=workers, backend=backend, seed=1, epochs=2)
    assert found == batches_of(same, workers=0, seed=1, epochs=2)


@backends
def test_elements_of_coroutines_are_cached(workers, backend, tmp_path):
    async def once(number):
        (tmp_path / f"{number} was computed").touch(exist_ok=False)  # a second time is an error
        return await doubled(number)

    cached = Dataset(range(20)).map(once, concurrency=4).cache(tmp_path / "cache")
    for _ in range(2):
        assert batches_of(cached, epochs=2, workers=workers, backend=backend) == 2 * list(range(0, 40, 2))
    assert [int(value) for value in cached] == list(range(0, 40, 2))


def test_element_of_a_dataset_is_a_value():
    assert TWENTY.map(doubled)[3] == 6


def test_element_that_waits_for_its_own_loop_is_an_error():
    inner = TWENTY.map(doubled)

    async def outer(number):
        return inner[number]

    with pytest.raises(RuntimeError, match="waits for samples that the same event loop must compute"):
        TWENTY.map(outer)[0]


async def coroutine(*_):
    return True


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: Loader(Samples(), batch_size=2, threads=2), ValueError, "concurrency=n"),
        (lambda: Loader(PLAIN, batch_size=2, concurrency=2), ValueError, "async def __getitem__"),
        (lambda: Loader(plain_numbers, concurrency=2), ValueError, r"map\(function, concurrency=n\)"),
        (lambda: Loader(numbers, concurrency=2), ValueError, r"map\(function, concurrency=n\)"),
        (lambda: Loader(Samples(), batch_size=2, concurrency=0), ValueError, "1 or more"),
        (lambda: Loader(Samples(), batch_size=2, loop_factory=1), TypeError, "set_event_loop_policy"),
        (lambda: Loader(PLAIN, batch_size=2, collate=coroutine), TypeError, "plain function"),
        (lambda: Loader(numbers()), TypeError, "the asynchronous generator function itself"),
        (lambda: Dataset(Samples()), TypeError, r"map\(source.__getitem__\)"),
        (lambda: Dataset(range(4)).map(coroutine, threads=2), ValueError, "concurrency=n"),
        (lambda: Dataset(range(4)).map(bool, concurrency=2), ValueError, "threads=n"),
        (lambda: Dataset(range(4)).filter(bool, concurrency=2), ValueError, "threads=n"),
        (lambda: Dataset(range(4)).flat_map(coroutine), TypeError, r"map\(function\)\.flat_map\(list\)"),
        (lambda: Dataset(range(4)).take_while(coroutine), TypeError, "plain function"),
        (lambda: Dataset(range(4)).scan(0, coroutine), TypeError, "plain function"),
        (lambda: Dataset(range(4)).sort(coroutine), TypeError, "plain function"),
        (lambda: Dataset(range(4)).bucket(coroutine, [2], [2, 2]), TypeError, "plain function"),
        (lambda: Dataset(range(4)).batch(2, collate=coroutine), TypeError, "plain function"),
    ],
)
def test_invalid_combinations_are_refused(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_asynchronous_end_of_epoch_is_refused():
    class Ends(Batches):
        async def on_epoch_end(self):
            pass

    with pytest.raises(TypeError, match="on_epoch_end"):
        Loader(Ends())


def test_enqueuers_run_coroutines():
    for use_multiprocessing in (True, False):
        with mpqueue.OrderedEnqueuer(Batches(), use_multiprocessing=use_multiprocessing) as enqueuer:
            enqueuer.start(workers=2)
            batches = enqueuer.get()
            assert [int(next(batches)[0][0]) for _ in range(12)] == list(range(12))


def test_verdict_recommends_more_samples_in_flight():
    class Waits(Samples):
        async def at_work(self, index):
            await asyncio.sleep(0.02)  # the waiting time is the subject

    with Loader(Waits(), batch_size=SIZE, workers=1, concurrency=2) as loader:
        for _ in range(3):
            list(loader)
        counted = loader.statistics()
    assert counted.concurrency == 2
    assert "concurrency=8" in str(counted)


@pytest.mark.parametrize("use_multiprocessing", [True, False])
def test_generator_enqueuer_runs_an_asynchronous_generator(use_multiprocessing):
    enqueuer = mpqueue.GeneratorEnqueuer(numbers, use_multiprocessing=use_multiprocessing)
    enqueuer.start(workers=2)
    batches = enqueuer.get()
    assert sorted(next(batches)[0] for _ in range(20)) == list(range(20))
    enqueuer.stop()


def test_shared_generators_are_told_once(caplog):
    class Draws(Samples):
        async def at_work(self, index):
            np.random.random()

    batches_of(Draws(), batch_size=SIZE, workers=1, seed=1)
    # A worker process logs on its own standard error, as for threads.
    with caplog.at_level(logging.WARNING, "mpqueue"):
        batches_of(Draws(), batch_size=SIZE, workers=0, seed=1)
    assert sum("concurrency=64" in record.getMessage() for record in caplog.records) == 1
