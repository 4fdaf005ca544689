"""Crashes of workers, agents and nodes in the middle of a stream: the batches remain the same."""

import contextlib
import functools
import select
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from helpers.alarms import Alarm
from helpers.faults import Fault
from helpers.gates import Gate, pass_gate
from helpers.ray_cluster import WAIT_S, RandomBatches, agents, hash_of, processes_of_ours, until
from helpers.wrapped_functions import recorded

import mpqueue
from mpqueue import Loader
from mpqueue.backends.ray import links, relay
from mpqueue.errors import BatchTimeout, WorkerDied

OPTIONS = {"seed": 7, "shuffle": True}


class WithFault(RandomBatches):
    """A `RandomBatches` with a fault at index 5."""

    def __init__(self, fault, length=24):
        super().__init__(length)
        self.fault = fault

    def __getitem__(self, index):
        if index == 5:
            self.fault()
        return super().__getitem__(index)


def waiting_at(gate):
    return WithFault(functools.partial(pass_gate, gate.address))


@pytest.fixture(scope="module")
def expected():
    return hash_of(Loader(RandomBatches(), workers=0, **OPTIONS))


def agent_of(pid):
    """Return the process of the agent that started a worker."""
    return psutil.Process(pid).parent().parent()


def agent_at_work():
    """Return the process id of the only agent, once its worker runs: the trainer's own worker is at work long before."""
    until(lambda: [name for _, name in processes_of_ours()].count("mpqueue-worker") == 2, "the start of both workers")
    (agent,) = agents()
    return agent


# -- Workers


def test_crashed_worker_on_node_is_replaced_there(other, expected, tmp_path):
    source = WithFault(Fault("sigkill", tmp_path / "fuse"))
    with Loader(source, workers=2, **other, **OPTIONS) as loader:
        assert hash_of(loader) == expected
        statistics = loader.statistics()
    assert (statistics.deaths, statistics.restarts) == (1, 1)
    assert [node.deaths for node in statistics.nodes] == [1]


def test_batch_that_crashes_workers_on_node_is_replaced_by_an_error(other):
    with Loader(WithFault(Fault("sigkill")), workers=2, restarts=1, copy=True, **other) as loader:
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


def test_hanging_call_raises_timeout_with_its_stack(other):
    source, options = WithFault(Fault("endless-loop")), {"workers": 1, "restarts": 0, "batch_timeout": 5}
    with Loader(source, **options, **other) as loader, pytest.raises(BatchTimeout) as caught:
        for _ in loader:
            pass
    assert caught.value.index == 5
    assert "_loop" in caught.value.stack


def test_crash_of_fork_server_of_node_costs_no_batch(other, expected, taken):
    with Gate() as gate, Loader(waiting_at(gate), workers=1, **other, **OPTIONS) as loader:
        got = taken(loader)
        arrival = gate.arrival()
        psutil.Process(arrival.pid).parent().kill()
        again = gate.arrival()
        arrival.let_go()
        again.let_go()
        assert got.result(WAIT_S) == expected
        assert loader.statistics().deaths == 1


# -- Agents and nodes


@pytest.fixture
def taken():
    """A call that takes an epoch in a thread, and returns a future of its hash."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda loader: pool.submit(hash_of, loader)


def test_crashed_agent_costs_no_batch_and_is_restarted(cluster, taken):
    """Its worker is started on the other node in the meantime, and moves back when the agent is running again."""
    reference = Loader(RandomBatches(), workers=0, **OPTIONS)
    with Gate() as gate, Loader(waiting_at(gate), workers=2, backend="ray", restarts=0, **OPTIONS) as loader:
        got = taken(loader)
        arrival = gate.arrival()
        agent = agent_at_work()
        psutil.Process(agent).kill()
        arrival.let_go()  # if the agent is restarted already, it starts a second worker, which arrives, too
        with answering(gate):
            assert got.result(WAIT_S) == hash_of(reference)
            until(
                lambda: spread(loader, reference) == [1, 1] and agents() not in ([], [agent]), "the return of the node"
            )
            assert loader.statistics().deaths == 1  # the crash may be noticed only after the first epoch


@contextlib.contextmanager
def answering(gate):
    """Open the gate for all arrivals, in a thread, until the context exits."""
    is_over = threading.Event()

    def answer():
        while not is_over.wait(0.02):
            while gate.has_arrivals:
                gate.arrival().let_go()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def spread(loader, reference):
    """Take an epoch and compare it; return the numbers of workers on all nodes."""
    assert hash_of(loader) == hash_of(reference)
    return [node.workers for node in loader.statistics().nodes]


EXTRA = {"resources": {"extra": 1}, "num_cpus": 0}


def test_lost_node_costs_no_batch_and_last_lost_node_is_an_error(cluster, expected, extra_node, taken):
    for _ in range(2):
        extra_node(resources={"extra": 4})
    options = {"workers": 2, "backend": "ray", "ray_options": EXTRA, "restarts": 0} | OPTIONS
    with Gate() as gate, Loader(waiting_at(gate), **options) as loader:
        got = taken(loader)
        first = gate.arrival()
        raylet = agent_of(first.pid).parent()
        raylet.kill()
        again = gate.arrival()
        last = agent_of(again.pid).parent()
        assert last.pid != raylet.pid
        first.let_go()
        again.let_go()
        assert got.result(WAIT_S) == expected
        assert loader.statistics().deaths == 1
        last.kill()
        with pytest.raises(WorkerDied, match="No node of the Ray cluster can run the worker"), answering(gate):
            while True:  # the agent serves until Ray kills it, and short epochs may end before
                hash_of(loader)


def test_joining_node_gets_workers_and_stream_is_the_same(cluster, extra_node):
    reference = Loader(RandomBatches(), workers=0, **OPTIONS)
    with Loader(RandomBatches(), workers=4, backend="ray", **OPTIONS) as loader:
        assert spread(loader, reference) == [2, 2]
        extra_node()
        until(lambda: sorted(spread(loader, reference)) == [1, 1, 2], "the use of the new node")
        assert hash_of(loader) == hash_of(reference)
        assert loader.statistics().deaths == 0


def test_workers_of_generator_do_not_move(cluster, extra_node, looks):
    with Loader(counting, workers=4, backend="ray") as loader:
        first = sorted(int(index) for index in loader)
        extra_node()
        # An unused node is not reported. The first of these checks may have started before the node was there.
        num_before = len(looks)
        until(lambda: len(looks) >= num_before + 2, "two checks for new nodes")
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


def test_generator_on_lost_node_continues_at_the_same_element(other):
    with (
        Gate() as gate,
        ThreadPoolExecutor(1) as pool,
        Loader(functools.partial(gated, gate.address), workers=1, restarts=0, **other) as loader,
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


@pytest.fixture
def looks(monkeypatch):
    """One entry for each time that links have checked the nodes of the cluster."""
    return recorded(monkeypatch, links.Links, "_look")


@pytest.fixture
def relays(monkeypatch):
    """The relays of all connections to agents."""
    running = []

    class Recorded(relay.Relay):
        sock = property(lambda self: self._sock)

        def run(self):
            running.append(self)
            super().run()

        def end_deadline(self):
            self._deadline_s = 0.0
            self._link.wakeup.wake()

    monkeypatch.setattr(links, "Relay", Recorded)
    return running


def test_silent_agent_is_given_up(cluster, expected, stopped, relays, taken):
    with Gate() as gate, Loader(waiting_at(gate), workers=2, backend="ray", restarts=0, **OPTIONS) as loader:
        got = taken(loader)
        arrival = gate.arrival()
        agent = agent_at_work()
        stopped(agent)
        # The deadline of this connection alone, and only now: on a busy machine, other agents may be late.
        (of_agent,) = relays
        of_agent.end_deadline()
        with answering(gate):
            arrival.let_go()
            assert got.result(WAIT_S) == expected
            until(lambda: hash_of(loader) and loader.statistics().deaths == 1, "the loss of the silent agent")


class StoppedClock:
    """A clock for relays. Its time passes only in `hold`, which stops the relays."""

    def __init__(self):
        self._now_s, self._may_run, self._is_held = 0.0, threading.Event(), threading.Event()
        self._may_run.set()

    def monotonic(self):
        return self._now_s

    def take_commands(self, link):
        """Take the commands as a `NodeLink`, which a relay does before it computes how long to wait."""
        if not self._may_run.is_set():
            self._is_held.set()
            assert self._may_run.wait(WAIT_S)
        return TAKE_COMMANDS(link)

    @contextlib.contextmanager
    def hold(self, passed_s):
        """Stop the relays in this context; when it exits, this many seconds have passed."""
        self._may_run.clear()
        try:
            assert self._is_held.wait(WAIT_S), "no relay has taken its commands"
            yield
            self._now_s += passed_s
        finally:
            self._may_run.set()


TAKE_COMMANDS = relay.NodeLink.take_commands


def test_busy_trainer_does_not_give_up_agents(other, relays, monkeypatch):
    """The relay's thread does not run for longer than the deadline. Messages that arrive in that time count."""
    clock = StoppedClock()
    monkeypatch.setattr(relay, "time", clock)
    monkeypatch.setattr(relay.NodeLink, "take_commands", lambda link: clock.take_commands(link))
    options = {"backend": "ray", "ray_options": other["ray_options"] | {"deadline_s": 3}} | OPTIONS
    with Loader(RandomBatches(), workers=1, **options) as loader:
        batches = iter(loader)
        next(batches)
        with clock.hold(passed_s=60):
            # The agent sends a message at least every third of the deadline.
            assert select.select([relays[0].sock], [], [], WAIT_S)[0]
        assert len(list(batches)) == 23
        assert loader.statistics().deaths == 0


# -- The end


def test_stop_in_mid_epoch_ends_agents_and_restart_works(cluster):
    loader = Loader(RandomBatches(length=200), workers=2, backend="ray", max_queue_size=20)
    batches = iter(loader)
    assert int(next(batches)[1]) == 0
    loader.stop()
    assert list(batches) == []
    until(lambda: not agents(), "the end of the agents")
    with loader:
        assert len(list(loader)) == 200


def test_stop_does_not_wait_for_silent_agent(other, stopped):
    """The deadline of the agent is far away, and the exit of the killed worker is not reported."""
    with Loader(RandomBatches(), workers=1, **other) as loader:
        next(iter(loader))
        stopped(*agents())
        loader.stop()
    until(lambda: not agents(), "the end of the agent")


def test_interrupt_of_waiting_consumer_loses_no_batch(other, expected):
    with Gate() as gate, Loader(waiting_at(gate), workers=1, **other, **OPTIONS) as loader:
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
    """Interrupt the main thread when a worker waits at the gate."""
    arrival = gate.arrival()
    alarm.set()
    assert alarm.has_struck.wait(60)
    arrival.let_go()
