"""``async for`` over a loader, an enqueuer and a consumer.

After a cancelled wait, the next caller receives the batch.
"""

import contextlib
import gc
import os
import select
import signal
import threading

import anyio
import numpy as np
import pytest
from anyio.lowlevel import checkpoint
from helpers.alarms import nudged
from helpers.computed_source import Computed
from helpers.engine_parts import pipeline_of
from helpers.faults import Fault, StrikesAt, burns
from helpers.gates import Gate, pass_gate
from helpers.numbered_batches import Broken, Numbered
from helpers.waits import until

import mpqueue

pytestmark = pytest.mark.sample(2)

LENGTH = 12
DEADLOCK_S = 60


@contextlib.contextmanager
def consumer_of(source, folder):
    with (
        mpqueue.Server(f"{folder}/server", source, workers=1) as server,
        mpqueue.attach(server.folder, timeout=DEADLOCK_S) as consumer,
    ):
        yield consumer


def made(frontend, source, folder):
    """Return a context with an object that yields the batches of a source."""
    if frontend == "consumer":
        return consumer_of(source, folder)
    workers, backend = {"process": (2, "process"), "thread": (2, "thread"), "inline": (0, "process")}[frontend]
    return mpqueue.Loader(source, workers=workers, backend=backend)


FRONTENDS = ["process", "thread", "consumer", "inline"]


def pytest_generate_tests(metafunc):
    """Run each test with all frontends that it needs."""
    if "batches_of" in metafunc.fixturenames:
        metafunc.parametrize("frontend_name", FRONTENDS)
    elif "awaited_of" in metafunc.fixturenames:  # without loaders that compute in the calling process
        metafunc.parametrize("frontend_name", FRONTENDS[:3])


@pytest.fixture
def run():
    """Run a coroutine function in an event loop, and fail if it hangs."""

    def call(function, *args):
        async def bounded():
            with anyio.fail_after(DEADLOCK_S):
                return await function(*args)

        return anyio.run(bounded)

    return call


@pytest.fixture
def batches_of(frontend_name, tmp_path):
    """Return a function that creates a loader or consumer of a source."""
    return lambda source: made(frontend_name, source, tmp_path)


awaited_of = batches_of  # in tests that wait for another process or thread


def number(batch):
    return int(np.asarray(batch).flat[0])


async def numbers(batches):
    return [number(batch) async for batch in batches]


async def collect(stream, found):
    """Add the numbers of all batches to a list; other tasks run between them."""
    async for batch in stream:
        found.append(number(batch))
        await checkpoint()


def test_enqueuer_continues_across_loops_until_stopped(run):
    async def some(enqueuer, found):
        async for batch in enqueuer:
            found.append(number(batch))
            if len(found) % 5 == 0:
                return

    found, enqueuer = [], mpqueue.OrderedEnqueuer(Numbered(LENGTH), use_multiprocessing=True)
    enqueuer.start(workers=2)
    for _ in range(4):
        run(some, enqueuer, found)
    assert found == [index % LENGTH for index in range(20)]
    enqueuer.stop()
    assert run(numbers, enqueuer) == []


def test_generator_enqueuer_skips_none(run):
    enqueuer = mpqueue.GeneratorEnqueuer(iter([np.zeros(1), None, np.ones(1)]))
    enqueuer.start()
    assert run(numbers, enqueuer) == [0, 1]
    enqueuer.stop()


def gated(gate):
    """Return a source with a batch 2 that waits at a gate, the first time."""
    address = gate.address
    return StrikesAt(lambda: burns(f"{address}.seen") and pass_gate(address), 2, LENGTH)


def test_cancelled_wait_takes_no_batch(run, awaited_of):
    async def struck(batches, gate):
        stream = aiter(batches)
        found = [number(await anext(stream)) for _ in range(2)]
        arrival = await anyio.to_thread.run_sync(gate.arrival)
        for _ in range(3):
            with anyio.move_on_after(0.001) as scope:
                await anext(stream)
            assert scope.cancelled_caught
        arrival.let_go()
        return found + [number(batch) async for batch in stream]

    with Gate() as gate, awaited_of(gated(gate)) as batches:
        assert run(struck, batches, gate) == list(range(LENGTH))


def test_cancellation_at_any_turn_loses_and_repeats_no_batch(run, batches_of):
    """The task is cancelled after each number of turns; a second task continues."""

    async def struck(batches):
        for turns in range(25):
            stream, found = aiter(batches), []
            async with anyio.create_task_group() as group:
                group.start_soon(collect, stream, found)
                for _ in range(turns):
                    await checkpoint()
                group.cancel_scope.cancel()
            await collect(stream, found)
            assert found == list(range(LENGTH)), turns

    with batches_of(Numbered(LENGTH)) as batches:
        run(struck, batches)


def test_other_tasks_run_while_one_waits(run, awaited_of):
    """The gate can only be opened by another task."""

    async def alone(batches, gate):
        async def open_it():
            (await anyio.to_thread.run_sync(gate.arrival)).let_go()

        async with anyio.create_task_group() as group:
            group.start_soon(open_it)
            return await numbers(batches)

    with Gate() as gate, awaited_of(gated(gate)) as batches:
        assert run(alone, batches, gate) == list(range(LENGTH))


def test_tasks_share_an_iterator(run, batches_of):
    async def shared(batches):
        stream, found = aiter(batches), []
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(collect, stream, found)
        return sorted(found)

    with batches_of(Numbered(LENGTH)) as batches:
        for _ in range(3):
            assert run(shared, batches) == list(range(LENGTH))


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_wait_ends_at_once_if_another_caller_has_read_the_reports(backend):
    """The queue is full, so no later report would end the wait of a task. The caller may be a thread in `step`."""
    with mpqueue.Loader(range(100), workers=1, backend=backend, max_queue_size=8) as loader:
        iter(loader)
        pipeline = pipeline_of(loader)
        fd = pipeline.fileno()
        until(lambda: pipeline.num_ready == 8, "the queue was not filled")
        assert select.select([fd], [], [], 0)[0]
        assert pipeline.timeout_s() == 0


@pytest.mark.parametrize("frontend", ["process", "thread"])  # a second loop of a consumer waits for the first
def test_later_loop_invalidates_waiting_loop(run, frontend, tmp_path):
    async def both(batches, gate):
        reported, earlier = [], aiter(batches)
        assert [number(await anext(earlier)) for _ in range(2)] == [0, 1]

        async def go_on():
            with pytest.raises(RuntimeError, match="was invalidated by a later iterator") as caught:
                await anext(earlier)
            reported.append(caught)

        async with anyio.create_task_group() as group:
            group.start_soon(go_on)
            arrival = await anyio.to_thread.run_sync(gate.arrival)
            await anyio.wait_all_tasks_blocked()
            later = aiter(batches)
            while not reported:  # no batch arrives in the meantime
                await checkpoint()
            arrival.let_go()
            return [number(batch) async for batch in later]

    with Gate() as gate, made(frontend, gated(gate), tmp_path) as batches:
        rest = run(both, batches, gate)
        assert rest[-1] == LENGTH - 1


def test_stop_from_another_thread_ends_waiting_loop(run, awaited_of):
    async def stopped(batches, gate):
        stream = aiter(batches)
        assert [number(await anext(stream)) for _ in range(2)] == [0, 1]
        arrival = await anyio.to_thread.run_sync(gate.arrival)

        async def close():
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(batches.close)

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            assert await anext(stream, "the end") == "the end"
        arrival.let_go()

    with Gate() as gate, awaited_of(gated(gate)) as batches:
        run(stopped, batches, gate)


def test_exception_of_source_replaces_its_batch(run, batches_of):
    async def through(batches):
        stream, found = aiter(batches), []
        while True:
            try:
                found.append(number(await anext(stream)))
            except StopAsyncIteration:
                return found
            except LookupError as error:
                found.append(str(error))

    with batches_of(Broken(5)) as batches:
        assert run(through, batches) == [0, 1, 2, "batch 3 is damaged", 4]


def end_too_soon(index):
    raise StopAsyncIteration


def test_stop_async_iteration_of_source_is_runtime_error(run):
    with mpqueue.Loader(Computed(end_too_soon), workers=1) as loader:
        with pytest.raises(RuntimeError, match="the source raised StopAsyncIteration"):
            run(numbers, loader)


@pytest.mark.parametrize("frontend", ["process", "consumer"])
def test_killed_worker_is_replaced_while_task_waits(run, frontend, tmp_path):
    fuse = tmp_path / "fuse"
    with made(frontend, StrikesAt(Fault("sigkill", fuse), length=LENGTH), tmp_path) as batches:
        assert run(numbers, batches) == list(range(LENGTH))
    assert fuse.exists()


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_batch_timeout_is_raised_while_task_waits(run, backend):
    options = {"backend": backend, "batch_timeout": 0.1, "restarts": 0}
    with Gate() as gate, mpqueue.Loader(gated(gate), workers=1, **options) as loader:
        with pytest.raises(mpqueue.errors.BatchTimeout):
            run(numbers, loader)
        gate.arrival().let_go()


def test_stream_continues_after_ctrl_c_in_wait(run, awaited_of):
    """asyncio cancels its main task."""

    def strike(gate, arrivals, are_noted):
        arrivals.append(gate.arrival())
        assert are_noted.wait(DEADLOCK_S)  # batches that a loop received and did not record would be missing
        os.kill(os.getpid(), signal.SIGINT)

    async def begin(stream, found, gate, arrivals):
        are_noted = threading.Event()
        thread = threading.Thread(target=strike, args=(gate, arrivals, are_noted))
        thread.start()
        async for batch in stream:
            found.append(number(batch))
            if len(found) == 2:
                are_noted.set()

    with Gate() as gate, awaited_of(gated(gate)) as batches:
        stream, found, arrivals = aiter(batches), [], []
        gc.disable()  # an exception in a callback of the collector is ignored, and callbacks of hypothesis exist
        try:
            with nudged(), pytest.raises(KeyboardInterrupt):
                run(begin, stream, found, gate, arrivals)
        finally:
            gc.enable()
        arrivals[0].let_go()
        run(collect, stream, found)
        assert found == list(range(LENGTH))


def test_async_iteration_without_event_loop_raises():
    with mpqueue.Loader(Numbered(), workers=0) as loader, pytest.raises(RuntimeError, match="no running event loop"):
        anext(aiter(loader)).send(None)
