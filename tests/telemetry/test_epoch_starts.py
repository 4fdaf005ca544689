"""The times at the starts of epochs: by part, in all frontends, and in the warning about a slow one."""

import json
import logging
import threading

import numpy as np
import pytest
from helpers.numbered_batches import iter_after
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture
from helpers.started_enqueuer import started
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import Loader
from mpqueue.backends.processes.supervision import Supervision
from mpqueue.engine import epoch_end
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.telemetry import recorder
from mpqueue.telemetry.recorder import START_PARTS, StartTally

pytestmark = pytest.mark.sample(1)


class Clock:
    """The clock of the recorder, which only `pass_s` advances."""

    def __init__(self):
        self.now = 10**12

    def __call__(self):
        return self.now

    def pass_s(self, seconds):
        self.now += int(seconds * 1e9)


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch, caplog):
    monkeypatch.setattr(recorder, "clock_ns", CLOCK)
    # Otherwise a slow machine would run the hook in a thread.
    monkeypatch.setattr(epoch_end, "EPOCH_END_DELAY_S", 3600)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        yield CLOCK


class Source:
    """A source with parts that take time by the clock: pickling, its length, and its hook."""

    def __init__(self, pickle_s=0, length_s=0):
        self.pickle_s, self.length_s = pickle_s, length_s

    def __len__(self):
        CLOCK.pass_s(self.length_s)
        return 3

    def __getitem__(self, index):
        return np.full(10, index)

    def __getstate__(self):
        CLOCK.pass_s(self.pickle_s)
        return vars(self).copy()


class Hooked(Source):
    def on_epoch_end(self):
        CLOCK.pass_s(2)


def loops(loader, number=3, change=lambda: None):
    """Run loops; return the messages of each."""
    for _ in range(number):
        assert len(list(loader)) == 3
        change()


def slow_down(monkeypatch, position, name, seconds):
    """Make a method take this time by the clock."""

    def slow(method, *arguments):
        CLOCK.pass_s(seconds)
        method(*arguments)

    wrap(monkeypatch, position, name, slow)


def test_inner_parts_do_not_count_for_outer_ones(clock):
    starts = StartTally()
    with starts.part("order"):
        clock.pass_s(1)
        with starts.part("restart"), pytest.raises(KeyError), starts.part("compare"):
            clock.pass_s(2)
            raise KeyError
        with starts.part("send"):
            clock.pass_s(4)
    assert {name: ns / 1e9 for name, ns in starts.parts_ns.items() if ns} == {"order": 1, "compare": 2, "send": 4}


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 1, "backend": "thread"}, {"workers": 0}], ids=str)
def test_hook_and_length_are_timed_in_each_backend(options, caplog):
    with Loader(Hooked(), **options) as loader:
        loops(loader)
        found = loader.statistics()
    assert found.epoch_starts.hook_s == 6
    assert found.epoch_starts.count == 3
    assert found.epoch_starts.total_s == pytest.approx(6)
    (message,) = caplog.messages
    assert message.startswith("epoch 1 started 2 s late: 2 s for on_epoch_end. To start faster, ")
    assert "move work of on_epoch_end" in message
    with Loader(Source(length_s=2), **options) as loader:
        loops(loader)
        assert loader.statistics().epoch_starts.order_s >= 4


def test_hook_in_thread_counts_as_ahead(monkeypatch, caplog):
    monkeypatch.setattr(epoch_end, "EPOCH_END_DELAY_S", 0)
    was_called = threading.Event()

    class Source(Hooked):
        def on_epoch_end(self):
            super().on_epoch_end()
            was_called.set()

    with Loader(Source(), workers=1, backend="thread") as loader:
        batches = iter_after(loader, 3)
        assert was_called.wait(60)
        assert list(batches) == []
        found = loader.statistics().epoch_starts
    assert (found.ahead_s, found.hook_s) == (2, 0)
    assert caplog.messages == []


def test_comparison_of_source_is_timed_and_warned_of_once(caplog):
    with Loader(Source(pickle_s=3), workers=1) as loader:
        loops(loader, 1)
        first = loader.statistics().epoch_starts
        assert caplog.messages == []  # the first start sends the source
        loops(loader, 2)
        found = loader.statistics().epoch_starts
    assert first.launch_s >= 3
    assert (first.compare_s, found.compare_s, found.launch_s) == (0, 6, first.launch_s)
    (message,) = caplog.messages
    assert message.startswith("epoch 1 started 3 s late: 3 s for comparing the source with the workers' copy (")
    assert "constant = True" in message
    assert '"My training is slow", Slow starts of epochs,' in message
    assert loader.statistics().epoch_starts == found


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "21 MB have changed, and running workers receive up to 16.8 MB"),
        ({"start_method": "fork"}, "forked workers cannot receive changes of the source"),
    ],
    ids=["large change", "fork"],
)
def test_restart_of_workers_is_timed_with_reason(options, reason, monkeypatch, caplog):
    slow_down(monkeypatch, Supervision, "start_anew", 5)
    source = Source()
    source.array = np.zeros(20 << 20, np.uint8)
    with Loader(source, workers=1, **options) as loader:
        loops(loader, 2, lambda: source.array.__iadd__(1))
        found = loader.statistics().epoch_starts
    assert found.restart_s == 5
    (message,) = caplog.messages
    assert message.startswith(f"epoch 1 started 5 s late: 5 s for restarting the workers ({reason}). To start faster, ")


def test_sent_change_is_timed(monkeypatch):
    from mpqueue.backends.start.launcher import ForkServer

    slow_down(monkeypatch, ForkServer, "send_patch", 0.5)
    source = Source()
    with Loader(source, workers=1) as loader:
        loops(loader, 2, lambda: setattr(source, "more", 1))
        found = loader.statistics().epoch_starts
    assert (found.send_s, found.restart_s) == (0.5, 0)


def test_second_start_of_workers_warns(monkeypatch, caplog):
    slow_down(monkeypatch, Supervision, "await_workers", 4)
    loader = Loader(Source(), workers=1)
    for _ in range(3):
        with loader:
            loops(loader, 1)
        assert loader.statistics().epoch_starts.launch_s == 4
        assert loader.statistics().epoch_starts.count == 1
    (message,) = caplog.messages
    assert message.startswith("epoch 1 started 4 s late: 4 s for starting the workers again. To start faster, keep the")


def test_start_after_an_interrupted_one_does_not_warn(monkeypatch, caplog):
    interrupts = [KeyboardInterrupt()]

    def interrupted_once(start, supervision):
        if interrupts:
            raise interrupts.pop()
        start(supervision)

    wrap(monkeypatch, Supervision, "await_workers", interrupted_once)
    slow_down(monkeypatch, Supervision, "await_workers", 4)
    with Loader(Source(), workers=1) as loader:
        with pytest.raises(KeyboardInterrupt):
            loops(loader, 1)
        loops(loader, 1)
    assert not caplog.messages


class Sampler:
    """A sampler of torch that takes long to begin."""

    def __len__(self):
        return 3

    def __iter__(self):
        CLOCK.pass_s(2)
        return iter(range(3))


@pytest.mark.parametrize("persistent", [True, False])
def test_torch_loader_times_sampler_and_repeated_starts(persistent, monkeypatch, caplog):
    pytest.importorskip("torch")
    from mpqueue.torch import DataLoader

    loader = DataLoader(Source(), sampler=Sampler(), num_workers=1, persistent_workers=persistent)
    loops(loader)
    found = loader.statistics().epoch_starts
    assert found.order_s == (6 if persistent else 2)
    (message,) = caplog.messages
    assert "2 s for the order of the samples" in message


def test_enqueuer_times_hook(caplog):
    with started(Hooked(), 1) as enqueuer:
        iter_after(enqueuer.get(), 7)
        found = enqueuer.statistics().epoch_starts
    assert found.hook_s == 4
    assert len(caplog.messages) == 1


def test_keras_passes_time_comparison(caplog):
    enqueuer = PassEnqueuer(Source(pickle_s=2), 1, use_multiprocessing=True)
    for _ in range(3):
        enqueuer.start()
        batches = enqueuer.get()
        next(batches)
        enqueuer.stop()
    found = enqueuer.statistics().epoch_starts
    enqueuer.park()
    assert found.compare_s == 4
    assert [message.partition(":")[0] for message in caplog.messages] == ["epoch 1 started 2 s late"]


@pytest.mark.usefixtures("servers_directory")
def test_server_times_hook(caplog):
    with mpqueue.Server("epoch-starts", Hooked(), workers=1) as server, mpqueue.attach("epoch-starts") as consumer:
        loops(consumer)
        found = server.statistics()
    assert found.epoch_starts.hook_s >= 4
    assert any("for on_epoch_end" in message for message in caplog.messages)


def test_timeline_draws_parts(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    monkeypatch.setattr("mpqueue.telemetry.timeline.clock_ns", CLOCK)
    monkeypatch.setattr("mpqueue.backends.processes.handle.clock_ns", CLOCK)  # of the event that a batch was taken
    with Loader(Hooked(pickle_s=3), workers=1, trace=path) as loader:
        loops(loader, 2)
    events = [event for event in json.loads(path.read_text()) if event["ph"] == "X" and event["tid"] == 1]
    durations = {event["name"]: event["dur"] for event in events if event["dur"] >= 1e6}
    assert durations.keys() == {"start workers", "epoch start", "on_epoch_end", "compare source"}
    assert (durations["on_epoch_end"], durations["compare source"]) == (2e6, 3e6)


def test_metrics_show_slow_starts():
    with Loader(Hooked(), workers=0) as loader:
        loops(loader)
        found = loader.statistics()
    rows = {
        row.name: {"".join(labels.values()): value for labels, value in row.read(found)}
        for row in mpqueue.telemetry.rows.ROWS
    }
    assert rows["epoch_starts"] == {"": 3}
    assert rows["epoch_start"].keys() == set(START_PARTS)
    assert rows["epoch_start"]["hook"] == 6
