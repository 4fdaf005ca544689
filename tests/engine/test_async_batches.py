"""``async for`` over a loader, an enqueuer and a consumer, in asyncio and in trio.

A wait takes no batch: after a cancelled wait, the next caller receives the same batch.
"""

import contextlib
import gc
import os
import select
import signal
import threading
import time
import weakref

import anyio
import numpy as np
import pytest
from anyio.lowlevel import checkpoint
from helpers.alarms import nudged
from helpers.computed import Computed
from helpers.faults import Fault, StrikesAt
from helpers.gates import Gate, pass_gate
from helpers.handling import handling, raising
from helpers.inside import pipeline_of
from helpers.numbered import Broken, Numbered
from helpers.strikes import Strike, Struck
from helpers.waits import until

import mpqueue
from mpqueue.engine.async_batches import AsyncBatches
from mpqueue.system.event_loops import make_waiter
from mpqueue.system.living import Living

LENGTH = 12
DEADLOCK_S = 60
# An exception between a call of a coroutine function and its `await` leaves a coroutine that was never awaited.
struck_between_call_and_await = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


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


LOOPS = ["asyncio", "trio"]
# A loop waits for a descriptor in the same way, whichever frontend it belongs to: not each pair is tested.
PAIRS = [("asyncio", "process"), ("trio", "thread"), ("trio", "consumer"), ("asyncio", "inline")]


def pytest_generate_tests(metafunc):
    """Run each test with both event loops, and with all frontends that it needs."""
    if "batches_of" in metafunc.fixturenames:
        metafunc.parametrize(("event_loop_name", "frontend_name"), PAIRS)
    elif "awaited_of" in metafunc.fixturenames:  # without loaders that compute in the calling task
        metafunc.parametrize(("event_loop_name", "frontend_name"), PAIRS[:3])
    elif "run" in metafunc.fixturenames:
        metafunc.parametrize("event_loop_name", LOOPS)


@pytest.fixture
def run(event_loop_name, monkeypatch):
    """Run a coroutine function in an event loop, and fail if it hangs."""
    # trio keeps idle threads for 10 s, but each test waits until all of its threads have exited.
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.01)

    def call(function, *args):
        async def bounded():
            with anyio.fail_after(DEADLOCK_S):
                return await function(*args)

        return anyio.run(bounded, backend=event_loop_name)

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


class Gated(Numbered):
    """A source with a batch 2 that waits at a gate, the first time."""

    def __init__(self, address):
        super().__init__(LENGTH)
        self.address = address

    def __getitem__(self, index):
        if index == 2 and not os.path.exists(f"{self.address}.seen"):
            with open(f"{self.address}.seen", "x"):
                pass_gate(self.address)
        return super().__getitem__(index)


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

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
        assert run(struck, batches, gate) == list(range(LENGTH))


def test_cancellation_at_any_turn_loses_and_repeats_no_batch(run, batches_of):
    """The task is cancelled after each number of turns; a second task continues."""

    async def consume(stream, found):
        async for batch in stream:
            found.append(number(batch))
            await checkpoint()

    async def struck(batches):
        for turns in range(25):
            stream, found = aiter(batches), []
            async with anyio.create_task_group() as group:
                group.start_soon(consume, stream, found)
                for _ in range(turns):
                    await checkpoint()
                group.cancel_scope.cancel()
            await consume(stream, found)
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

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
        assert run(alone, batches, gate) == list(range(LENGTH))


def test_loop_without_waits_yields_to_other_tasks(run):
    async def busy(loader):
        turns, others = 0, anyio.Event()

        async def other():
            nonlocal turns
            while not others.is_set():
                turns += 1
                await checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            async for _ in loader:
                if turns > 3:
                    others.set()
                    return True
            others.set()
            return False

    with mpqueue.Loader(Numbered(20_000), workers=0) as loader:
        assert run(busy, loader)


def test_tasks_share_an_iterator(run, batches_of):
    async def shared(batches):
        stream, found = aiter(batches), []

        async def take():
            async for batch in stream:
                found.append(number(batch))
                await checkpoint()

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)
        return sorted(found)

    with batches_of(Numbered(LENGTH)) as batches:
        for _ in range(3):
            assert run(shared, batches) == list(range(LENGTH))


@pytest.mark.parametrize("num_steps", [1, LENGTH - 2], ids=["the next batch", "the end"])
def test_report_read_by_one_task_wakes_the_other(run, awaited_of, num_steps):
    """The stepping task has read the report, so that no descriptor is readable."""

    async def shared(batches, gate):
        stream, found = aiter(batches), []
        assert [number(await anext(stream)) for _ in range(2)] == [0, 1]

        async def wait():
            found.append(number(await anext(stream, [LENGTH])))

        async with anyio.create_task_group() as group:
            arrival = await anyio.to_thread.run_sync(gate.arrival)
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            arrival.let_go()
            for _ in range(num_steps):  # like a task that had its turn just now: without yielding to the event loop
                while not (taken := stream._step()):
                    time.sleep(0.001)  # noqa: ASYNC251 - no turn
                found.append(number(taken[1]))
        return found

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
        assert run(shared, batches, gate) == list(range(2, num_steps + 3))


class Silent:
    """A pollable object that raises if a program waits for it."""

    def __init__(self):
        self.watchers = weakref.WeakSet()

    def fileno(self):
        raise AssertionError("a step was due")


def test_wake_during_step_repeats_step_without_waiting(run):
    """The wake-up precedes the wait."""

    async def woken(pollable):
        found = iter([None, None, (0, "a batch")])

        def step():
            stream.wake()
            return next(found)

        stream = AsyncBatches(step, pollable)
        return await anext(stream)

    assert run(woken, Silent()) == "a batch"


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


def test_later_loop_invalidates_waiting_loop(run, awaited_of):
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

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
        rest = run(both, batches, gate)
        assert rest[-1] == LENGTH - 1
        if isinstance(batches, mpqueue.Consumer):  # a consumer continues where the earlier loop was
            assert rest == list(range(2, LENGTH))


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

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
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
    with (
        mpqueue.Loader(Computed(end_too_soon), workers=1) as loader,
        pytest.raises(RuntimeError, match="the source raised StopAsyncIteration"),
    ):
        run(numbers, loader)


@pytest.mark.parametrize("frontend", ["process", "consumer"])
def test_killed_worker_is_replaced_while_task_waits(run, frontend, tmp_path):
    fuse = tmp_path / "fuse"
    with made(frontend, StrikesAt(Fault("sigkill", fuse), length=LENGTH), tmp_path) as batches:
        assert run(numbers, batches) == list(range(LENGTH))
    assert fuse.exists()


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_batch_timeout_is_raised_while_task_waits(run, backend):
    async def timed_out(loader):
        with pytest.raises(mpqueue.errors.BatchTimeout):
            await numbers(loader)

    with (
        Gate() as gate,
        mpqueue.Loader(Gated(gate.address), workers=1, backend=backend, batch_timeout=0.1, restarts=0) as loader,
    ):
        run(timed_out, loader)
        gate.arrival().let_go()


@struck_between_call_and_await
def test_stream_continues_after_ctrl_c_in_wait(run, awaited_of):
    """asyncio cancels its main task; trio raises KeyboardInterrupt in the running task."""

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

    async def go_on(stream, found):
        async for batch in stream:
            found.append(number(batch))

    with Gate() as gate, awaited_of(Gated(gate.address)) as batches:
        stream, found, arrivals = aiter(batches), [], []
        gc.disable()  # an exception in a callback of the collector is ignored, and callbacks of hypothesis exist
        try:
            with nudged(), pytest.raises(KeyboardInterrupt):
                run(begin, stream, found, gate, arrivals)
        finally:
            gc.enable()
        arrivals[0].let_go()
        run(go_on, stream, found)
        assert found == list(range(LENGTH))


def test_async_iteration_without_event_loop_raises():
    with mpqueue.Loader(Numbered(), workers=0) as loader:
        waiting = anext(aiter(loader))
        with pytest.raises(RuntimeError, match="a task of asyncio or trio"):
            waiting.send(None)


def test_waiter_ignores_descriptor_closed_by_another_thread(run):
    """The stop has woken the waiter before."""

    async def wait():
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        waiter = make_waiter()
        waiter.wake()
        await waiter.wait(reading, None)

    run(wait)


@struck_between_call_and_await
def test_interrupted_wait_leaks_no_descriptor(run):
    """trio raises Ctrl-C in the running task, and a user's handler may raise anywhere in both."""

    async def wait(fd, after):
        with Strike(after) as strike:
            await make_waiter().wait(fd, 0.01)
        return strike

    reading, writing = os.pipe()
    os.write(writing, b"!")
    try:
        strike, after = None, 0
        while strike is None or strike.left <= 0:
            after += 1
            before = os.listdir("/proc/self/fd")
            with contextlib.suppress(Struck):
                strike = run(wait, reading, after)
            assert os.listdir("/proc/self/fd") == before
    finally:
        os.close(reading)
        os.close(writing)
    assert after > 10


def test_timeout_of_a_signal_handler_is_raised_by_the_loop(run):
    """An `OSError` of the descriptor means that the stream was closed; one of a handler belongs to the caller."""

    class Signalled:
        watchers = Living()

        def fileno(self):
            signal.raise_signal(signal.SIGUSR1)
            return -1

        def timeout_s(self):
            return None

    async def read():
        steps = iter([None, None, (0, "after the wait")])
        return await anext(AsyncBatches(lambda: next(steps), Signalled()))

    with handling(raising(TimeoutError("of the handler")), signal.SIGUSR1):
        with pytest.raises(TimeoutError, match="of the handler"):
            run(read)
