"""What ends on a cluster, in the middle of a stream: workers, agents, nodes. The stream is what it would have been."""

import contextlib
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from helpers.alarms import Alarm
from helpers.faults import Fault
from helpers.gates import Gate, pass_gate
from helpers.on_cluster import Told, agents, hash_of, on, until

import mpqueue
from mpqueue import Loader
from mpqueue.errors import BatchTimeout, WorkerDied

OPTIONS = {"seed": 7, "shuffle": True}


class Struck(Told):
    """Told, struck once in the middle."""

    def __init__(self, fault, length=24):
        super().__init__(length)
        self.fault = fault

    def __getitem__(self, index):
        if index == 5:
            self.fault()
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def expected():
    return hash_of(Loader(Told(), workers=0, **OPTIONS))


@pytest.fixture
def other(cluster):
    return cluster.others[0].node_id


def agent_of(pid):
    """The agent that a worker stems from."""
    return psutil.Process(pid).parent().parent()


# -- Workers


@pytest.mark.parametrize("kind", ["sigkill", "sigsegv", "exit-1"])
def test_a_worker_that_dies_on_a_node_is_replaced_there(other, expected, tmp_path, kind):
    source = Struck(Fault(kind, tmp_path / "fuse"))
    with Loader(source, workers=2, backend="ray", ray_options=on(other), **OPTIONS) as loader:
        assert hash_of(loader) == expected
        statistics = loader.statistics()
    assert (statistics.deaths, statistics.restarts) == (1, 1)
    assert [node.deaths for node in statistics.nodes] == [1]


def test_a_batch_that_kills_its_workers_is_an_error_in_its_place(other):
    with Loader(
        Struck(Fault("sigkill")), workers=2, backend="ray", ray_options=on(other), restarts=1, copy=True
    ) as loader:
        seen, error = [], None
        batches = iter(loader)
        while True:
            try:
                seen.append(int(next(batches)[1]))
            except WorkerDied as died:
                error = died
            except StopIteration:
                break
    assert seen == [index for index in range(24) if index != 5]
    assert (error.index, error.signal_name) == (5, "SIGKILL")


def test_a_call_that_never_returns_is_ended_by_its_time_out_with_its_stack(other):
    with (
        Loader(
            Struck(Fault("endless-loop")), workers=1, backend="ray", ray_options=on(other), restarts=0,
            batch_timeout=5,
        ) as loader,
        pytest.raises(BatchTimeout) as caught,
    ):  # fmt: skip
        for _ in loader:
            pass
    assert caught.value.index == 5
    assert "_loop" in caught.value.stack


def test_workers_that_die_before_they_compute_anything_are_no_batchs_fault(other):
    with (
        Loader(
            Told(), workers=1, backend="ray", ray_options=on(other), worker_init=Fault("sigkill"), restarts=1
        ) as loader,
        pytest.raises(WorkerDied) as caught,
    ):
        next(iter(loader))
    assert caught.value.index is None
    assert "worker_init" in str(caught.value)


def test_the_fork_server_of_a_node_dies_and_all_goes_on(other, expected):
    with (
        Gate() as gate,
        Loader(Waiting(gate.address), workers=1, backend="ray", ray_options=on(other), **OPTIONS) as loader,
    ):
        got = taken(loader)
        arrival = gate.arrival()
        psutil.Process(arrival.pid).parent().kill()
        again = gate.arrival()
        arrival.let_go()
        again.let_go()
        assert got() == expected
        assert loader.statistics().deaths == 1


# -- Agents and nodes


class Waiting(Told):
    """Told, whose index 5 waits at a gate."""

    def __init__(self, gate, length=24):
        super().__init__(length)
        self.gate = gate

    def __getitem__(self, index):
        if index == 5:
            pass_gate(self.gate)
        return super().__getitem__(index)


def taken(loader):
    """Take an epoch in a thread; a call that gives its hash, and raises what it raised."""
    result = []

    def take():
        try:
            result.append(hash_of(loader))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=take)
    thread.start()

    def got():
        thread.join(60)
        assert result, "the consumer hangs"
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    return got


def test_an_agent_that_dies_costs_no_batch_and_comes_back(cluster):
    """Its worker is started on the other node meanwhile; when it is back, it moves there again."""
    reference = Loader(Told(), workers=0, **OPTIONS)
    with Gate() as gate, Loader(Waiting(gate.address), workers=2, backend="ray", restarts=0, **OPTIONS) as loader:
        got = taken(loader)
        arrival = gate.arrival()
        (agent,) = agents()
        psutil.Process(agent).kill()
        arrival.let_go()  # it may have been there: then another comes
        with answering(gate):
            assert got() == hash_of(reference)
            until(
                lambda: spread(loader, reference) == [1, 1] and agents() not in ([], [agent]), "the return of the node"
            )
            assert loader.statistics().deaths == 1  # it may have been seen after the first epoch


@contextlib.contextmanager
def answering(gate):
    """Let everybody through the gate, in a thread, until the end."""
    gate._server.settimeout(0.05)
    is_over = threading.Event()

    def answer():
        while not is_over.is_set():
            with contextlib.suppress(TimeoutError):
                gate.arrival().let_go()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def spread(loader, reference):
    """Take an epoch, which is what it is to be; the numbers of workers on all nodes."""
    assert hash_of(loader) == hash_of(reference)
    return [node.workers for node in loader.statistics().nodes]


EXTRA = {"resources": {"extra": 1}, "num_cpus": 0}


def test_a_node_that_dies_while_the_driver_waits_costs_no_batch_and_the_last_one_is_an_error(
    cluster, expected, extra_node
):
    for _ in range(2):
        extra_node(resources={"extra": 4})
    with Gate() as gate, Loader(
        Waiting(gate.address), workers=2, backend="ray", ray_options=EXTRA, restarts=0, **OPTIONS
    ) as loader:  # fmt: skip
        got = taken(loader)
        first = gate.arrival()
        raylet = agent_of(first.pid).parent()
        raylet.kill()
        again = gate.arrival()
        last = agent_of(again.pid).parent()
        assert last.pid != raylet.pid
        first.let_go()
        again.let_go()
        assert got() == expected
        assert loader.statistics().deaths == 1
        last.kill()
        with pytest.raises(WorkerDied, match="No node of the Ray cluster can run the worker"), answering(gate):
            while True:  # the agent serves until Ray ends it, and epochs as short as these may be through before
                taken(loader)()


def test_a_node_that_joins_gets_workers_and_the_stream_stays_the_same(cluster, extra_node):
    reference = Loader(Told(), workers=0, **OPTIONS)
    with Loader(Told(), workers=4, backend="ray", **OPTIONS) as loader:
        assert spread(loader, reference) == [2, 2]
        extra_node()
        until(lambda: sorted(spread(loader, reference)) == [1, 1, 2], "the use of the new node")
        assert hash_of(loader) == hash_of(reference)
        assert loader.statistics().deaths == 0


def test_workers_of_a_generator_stay_where_they_are(cluster, extra_node):
    with Loader(counting, workers=4, backend="ray") as loader:
        first = sorted(int(index) for index in loader)
        extra_node()
        time_to_look()
        assert sorted(int(index) for index in loader) == first
        assert [node.workers for node in loader.statistics().nodes] == [2, 2]


def counting():
    info = mpqueue.worker_info()
    yield from range(info.shard_id, 12, info.num_shards)


def gated(gate):
    """Elements that wait once, in the middle."""
    for index in range(12):
        if index == 5:
            pass_gate(gate)
        yield index


def test_a_generator_whose_node_is_lost_goes_on_at_its_place(other):
    with (
        Gate() as gate,
        ThreadPoolExecutor(1) as pool,
        Loader(
            functools.partial(gated, gate.address), workers=1, backend="ray", ray_options=on(other), restarts=0
        ) as loader,
    ):
        elements = pool.submit(lambda: [int(index) for index in loader])
        arrival = gate.arrival()
        (agent,) = agents()
        psutil.Process(agent).kill()
        again = gate.arrival()
        arrival.let_go()
        again.let_go()
        assert elements.result(60) == list(range(12))
        assert loader.statistics().deaths == 1


def time_to_look():
    """Nothing tells of a node that is not taken: let the links look for new ones twice."""
    threading.Event().wait(2.2)


def test_an_agent_that_falls_silent_is_given_up(cluster, expected, stopped):
    with Gate() as gate, Loader(
        Waiting(gate.address), workers=2, backend="ray", ray_options={"deadline_s": 3}, restarts=0, **OPTIONS
    ) as loader:  # fmt: skip
        got = taken(loader)
        arrival = gate.arrival()
        (agent,) = agents()
        stopped(agent)
        with answering(gate):
            arrival.let_go()
            assert got() == expected
            until(lambda: hash_of(loader) and loader.statistics().deaths == 1, "the loss of the silent agent")


def test_a_busy_trainer_takes_no_agent_for_lost(other):
    """It holds the interpreter for longer than the deadline; what the agent has said meanwhile counts."""
    with Loader(Told(), workers=1, backend="ray", ray_options=on(other) | {"deadline_s": 2}, **OPTIONS) as loader:
        batches = iter(loader)
        next(batches)
        hold_the_interpreter(2.5)
        assert len(list(batches)) == 23
        assert loader.statistics().deaths == 0


def hold_the_interpreter(seconds):
    """Keep all other threads from running, as a call in C may."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@pytest.mark.parametrize("num_objects", [9, 14], ids=["full", "spilling"])
def test_an_object_store_that_is_full_or_spills_changes_nothing(cluster, expected, other, num_objects):
    import ray

    kept = [ray.put(np.ones(8 << 20, "u1")) for _ in range(num_objects)]
    with Loader(Told(), workers=2, backend="ray", ray_options=on(other), **OPTIONS) as loader:
        assert hash_of(loader) == expected
    assert len(kept) == num_objects


# -- The end


def test_a_stop_in_the_middle_ends_all_and_a_new_start_goes_on(cluster):
    loader = Loader(Told(length=200), workers=2, backend="ray", max_queue_size=20)
    batches = iter(loader)
    assert int(next(batches)[1]) == 0
    loader.stop()
    assert list(batches) == []
    until(lambda: not agents(), "the end of the agents")
    with loader:
        assert len(list(loader)) == 200


def test_a_stop_from_another_thread_ends_a_consumer_that_waits(other):
    with Gate() as gate, Loader(Waiting(gate.address), workers=1, backend="ray", ray_options=on(other)) as loader:
        got = taken(loader)
        arrival = gate.arrival()
        loader.stop()
        got()
        arrival.let_go()


def test_a_stop_does_not_wait_for_an_agent_that_says_nothing(other, stopped):
    """Its deadline is far away, and what it was told to kill cannot be waited for."""
    with Loader(Told(), workers=1, backend="ray", ray_options=on(other)) as loader:
        next(iter(loader))
        stopped(*agents())
        loader.stop()
    until(lambda: not agents(), "the end of the agent")


def test_an_interrupt_while_the_consumer_waits_loses_no_batch(other, expected):
    with (
        Gate() as gate,
        Loader(Waiting(gate.address), workers=1, backend="ray", ray_options=on(other), **OPTIONS) as loader,
    ):
        seen, batches = [], iter(loader)
        with pytest.raises(KeyboardInterrupt), Alarm(KeyboardInterrupt) as alarm:
            waits = threading.Thread(target=interrupt_at, args=(gate, alarm))
            waits.start()
            for batch in batches:
                seen.append(copied(batch))
        waits.join()
        with answering(gate):
            seen += [copied(batch) for batch in batches]
        assert hash_of(seen) == expected


def copied(batch):
    numbers, index, pid = batch
    return numbers.copy(), int(index), int(pid)


def interrupt_at(gate, alarm):
    """Interrupt the main thread when somebody has come to the gate."""
    arrival = gate.arrival()
    alarm.set()
    assert alarm.has_struck.wait(60)
    arrival.let_go()
