"""Traces: valid Trace Event Format, complete, bounded, and readable after any end of the program."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from helpers.faults import Fault, StrikesAt
from helpers.gates import Gate, pass_gate
from helpers.numbered_batches import iter_after
from helpers.scripted_server import ScriptedServer, attached
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture
from helpers.slow_sources import Slow
from helpers.started_enqueuer import started
from helpers.waits import until_main_thread_is_in

import mpqueue
from mpqueue import Loader
from mpqueue.errors import ServiceDied
from mpqueue.telemetry import timeline
from mpqueue.telemetry.timeline import Timeline

pytestmark = pytest.mark.sample(1)

# The fields that each phase must have, according to "Trace Event Format" (Google, 2016).
_SPAN = {"name": str, "cat": str, "ts": (int, float), "pid": int, "tid": int, "id": (int, str)}
PHASES = {
    "X": {"name": str, "ts": (int, float), "dur": (int, float), "pid": int, "tid": int},
    "i": {"name": str, "ts": (int, float), "pid": int, "tid": int, "s": str},
    "M": {"name": str, "pid": int, "args": dict},
} | dict.fromkeys("sfbe", _SPAN)


def check(events):
    """Check fields and their types, pairs, and nested slices, according to the format's description."""
    for event in events:
        for field, kind in PHASES[event["ph"]].items():
            assert isinstance(event[field], kind), event
        if event["ph"] == "i":
            assert event["s"] in {"g", "p", "t"}
    flows = {phase: Counter(event["id"] for event in events if event["ph"] == phase) for phase in "sf"}
    assert set(flows["f"]) <= set(flows["s"])
    spans = Counter()
    for event in sorted(
        (event for event in events if event["ph"] in "be"), key=lambda event: (event["ts"], event["ph"] == "e")
    ):
        spans[event["cat"], event["id"]] += 1 if event["ph"] == "b" else -1
    assert set(spans.values()) <= {0}
    for row in {event["tid"] for event in events if event["ph"] == "X"}:
        open_ends = []
        slices = [event for event in events if event["ph"] == "X" and event["tid"] == row]
        for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            while open_ends and open_ends[-1] <= event["ts"] + 0.002:
                open_ends.pop()
            end = event["ts"] + event["dur"]
            assert not open_ends or end <= open_ends[-1] + 0.002, event
            open_ends.append(end)


def read(path):
    events = json.loads(path.read_text())
    check(events)
    return events


def named(events, phase):
    return [event["name"] for event in events if event["ph"] == phase]


def traced(folder, source, *, epochs=1, **options):
    """Return the events of some epochs."""
    with Loader(source, trace=folder / "run.json", **options) as loader:
        for _ in range(epochs):
            for _ in loader:
                pass
    return read(folder / "run.json")


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for of_option, of_environment in (("~/a.json", "~/c.json"), (None, "~/b.json")):
        monkeypatch.setenv("MPQUEUE_TRACE", of_environment)
        with Loader([1, 2], workers=0, trace=of_option) as loader:
            list(loader)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


@pytest.mark.parametrize(
    ("link", "problem"), [("symlink_to", "is a symbolic link"), ("hardlink_to", r"has 2 names \(hard links\)")]
)
def test_file_that_a_link_leads_to_is_not_overwritten(tmp_path, link, problem):
    (tmp_path / "precious").write_text("precious")
    getattr(tmp_path / "run.json", link)(tmp_path / "precious")
    with pytest.raises(PermissionError, match=f"run.json {problem}.* pass another path as trace="):
        traced(tmp_path, Slow(6), workers=0)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.fixture(scope="module", params=["process", "thread"])
def epoch(request, tmp_path_factory):
    """The events of one epoch with two workers."""
    return traced(tmp_path_factory.mktemp("trace"), Slow(6), workers=2, backend=request.param)


def test_trace_has_row_for_each_worker_and_consumer(epoch):
    rows = {event["args"]["name"] for event in epoch if event["name"] == "thread_name"}
    assert rows == {"consumer", "worker 0", "worker 1"}
    slices = named(epoch, "X")
    assert {f"compute {index}" for index in range(6)} <= set(slices)
    assert {f"take {index}" for index in range(6)} <= set(slices)


class Gated(Slow):
    """A source that waits at a gate for its first batch."""

    def __init__(self, gate):
        super().__init__(2)
        self.gate = gate

    def __getitem__(self, index):
        if index == 0:
            pass_gate(self.gate)
        return super().__getitem__(index)


@pytest.mark.parametrize(("backend", "sleeps_in"), [("process", "_poll"), ("thread", "sleep")])
def test_trace_shows_when_the_consumer_waits(tmp_path, backend, sleeps_in):
    def open_while_the_consumer_sleeps():
        arrival = gate.arrival()
        until_main_thread_is_in(sleeps_in)
        arrival.let_go()

    with Gate() as gate:
        thread = threading.Thread(target=open_while_the_consumer_sleeps)
        thread.start()
        assert "wait" in named(traced(tmp_path, Gated(gate.address), workers=1, backend=backend), "X")
        thread.join()


def test_trace_without_workers_has_one_worker_row(tmp_path):
    events = traced(tmp_path, Slow(6), workers=0)
    assert {event["args"]["name"] for event in events if event["name"] == "thread_name"} == {"consumer", "worker 0"}
    assert "compute 5" in named(events, "X")


def test_flow_connects_copy_and_take(epoch):
    slices = [event for event in epoch if event["ph"] == "X"]

    def slice_at(event):
        """Return the innermost slice to which a viewer binds the event."""
        found = [
            one for one in slices if one["tid"] == event["tid"] and one["ts"] <= event["ts"] <= one["ts"] + one["dur"]
        ]
        return min(found, key=lambda one: one["dur"])["name"]

    begun = {event["id"]: slice_at(event) for event in epoch if event["ph"] == "s"}
    ended = {event["id"]: slice_at(event) for event in epoch if event["ph"] == "f"}
    pairs = {(begun[number].split()[-1], ended[number].split()[-1]) for number in ended}
    assert pairs == {(str(index), str(index)) for index in range(6)}


def test_trace_has_lease_times(tmp_path):
    with Loader(Slow(3), workers=1, trace=tmp_path / "run.json") as loader:
        for batch in loader:
            time.sleep(0.01)  # the batch is held for this time
            del batch
    events = read(tmp_path / "run.json")
    held = [event["ts"] for event in events if event["name"] == "held"]
    assert len(held) == 6
    assert all(end - begin >= 9000 for begin, end in zip(held[::2], held[1::2], strict=True))


def test_epochs_and_crashes_are_marked(tmp_path):
    marks = named(traced(tmp_path, StrikesAt(Fault("sigkill", tmp_path / "fuse"), at=2), epochs=2, workers=2), "i")
    assert {"epoch 0 begins", "epoch 0 ends", "epoch 1 begins", "epoch 1 ends"} <= set(marks)
    assert [mark for mark in marks if "died" in mark] in (["worker 0 died"], ["worker 1 died"])


def test_seeding_and_collation_are_within_computing(tmp_path):
    class Drawing(Slow):
        def __getitem__(self, index):
            return super().__getitem__(index) * np.random.random()

    events = traced(tmp_path, Drawing(6), workers=1, batch_size=2)  # `check` verifies that slices nest
    assert {"seed", "collate"} <= set(named(events, "X"))


def test_second_start_continues_file_which_a_new_loader_overwrites(tmp_path):
    (tmp_path / "run.json").write_text("of another loader")
    loader = Loader(Slow(6), workers=1, trace=tmp_path / "run.json")
    for _ in range(2):
        for _ in loader:
            pass
        loader.stop()
        read(tmp_path / "run.json")  # complete after each stop
    # Not the computed batches: these may include the next epoch's first batches, which a stop drops.
    assert named(read(tmp_path / "run.json"), "X").count("take 0") == 2


PROGRAM = """
import os, signal, sys, time
import numpy as np, mpqueue

class Source:
    def __len__(self):
        return 200
    def __getitem__(self, index):
        time.sleep(0.006)
        return np.full(10, index)

if __name__ == "__main__":
    loader = mpqueue.Loader(Source(), workers=1, trace="run.json")
    for number, _ in enumerate(loader):
        if number == 150:
            {end}
"""


def run(tmp_path, end):
    """Return the exit status of a program that ends while its loader runs."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(end=end))
    return subprocess.run([sys.executable, path], cwd=tmp_path, timeout=60, check=False).returncode


def test_trace_of_killed_trainer_is_readable(tmp_path):
    assert run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    text = (tmp_path / "run.json").read_text()
    assert not text.rstrip().endswith("]")
    events = json.loads(text + "]")  # the format permits a missing closing bracket
    check([event for event in events if event["ph"] not in "be"])
    assert len([name for name in named(events, "X") if name.startswith("compute")]) > 50


def test_program_without_stop_leaves_complete_file(tmp_path):
    assert run(tmp_path, "sys.exit(0)") == 0
    assert len(read(tmp_path / "run.json")) > 150


def test_environment_variable_traces_each_loader_into_its_own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MPQUEUE_TRACE", str(tmp_path / "run-%p.json"))
    monkeypatch.setattr(timeline, "_names_taken", set())
    for _ in range(2):
        with Loader(Slow(1), workers=1) as loader:
            list(loader)
    paths = [tmp_path / f"run-{os.getpid()}{suffix}.json" for suffix in (".2", "")]
    assert sorted(tmp_path.iterdir()) == paths
    assert all("compute 0" in named(read(path), "X") for path in paths)


@pytest.fixture
def drawn(tmp_path):
    """A timeline of two workers."""
    made = Timeline(str(tmp_path / "run.json"), "a test")
    made.begin(2)
    return made


def test_events_are_written_before_queue_is_long(tmp_path, drawn):
    """Memory is bounded for runs of any length."""
    for number in range(2000):
        drawn.batch(0, (number, 0, number), timeline.clock_ns() - 5000, (timeline.EVERY_NS, 100, 10, 1, 1))
        if number % 100 == 99:
            written = json.loads((tmp_path / "run.json").read_text() + "]")
            assert len([name for name in named(written, "X") if name.startswith("compute")]) > number - 600
    drawn.end()
    assert named(json.loads((tmp_path / "run.json").read_text()), "X").count("compute 1999") == 1


def test_fast_batches_are_sampled_and_slow_ones_all_drawn(tmp_path, drawn):
    began = timeline.clock_ns() - 100_000_000
    fast, slow = (1000, 100, 10, 1, 1), (timeline.EVERY_NS, 100, 10, 1, 1)
    are_drawn = [
        drawn.batch(worker, (index, 0, index), began + at_ms * 1_000_000, stages)
        for index, (worker, at_ms, stages) in enumerate(
            [(0, 0, fast), (0, 12, fast), (1, 12, fast), (0, 21, fast), (0, 22, slow), (0, 28, slow), (0, 44, fast)]
        )
    ]
    drawn.end()
    assert are_drawn == [True, False, True, True, True, True, False]
    assert named(read(tmp_path / "run.json"), "X").count("copy 1") == 0


def test_full_file_gets_only_marks(tmp_path, drawn, monkeypatch, caplog):
    monkeypatch.setattr(timeline, "_MOST_EVENTS", 100)
    for number in range(500):
        drawn.batch(0, (number, 0, number), timeline.clock_ns() - 5000, (timeline.EVERY_NS, 100, 10, 1, 1))
        drawn.take((number, 0, number), timeline.clock_ns())
        drawn.held(number, timeline.clock_ns(), timeline.clock_ns())
        drawn.flush()
    for number in range(500):  # in the end, the file would have the events that are kept
        drawn.take((number, 0, number), timeline.clock_ns())
        drawn.held(number, timeline.clock_ns(), timeline.clock_ns())
    drawn.mark("a death")
    drawn.end()
    events = json.loads((tmp_path / "run.json").read_text())
    assert len(events) < 120
    assert named(events, "i") == ["a death"]
    assert len(caplog.messages) == 1
    assert "only epochs and crashes are added from here" in caplog.text


def test_full_disk_ends_trace_but_not_run(caplog):
    with Loader(Slow(6), workers=1, trace="/dev/full") as loader:
        assert len(list(loader)) == 6
    assert "writing the trace /dev/full failed" in caplog.text


def test_disk_that_takes_a_part_of_an_event_leaves_whole_events(tmp_path, drawn, caplog):
    drawn.mark("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "run.json").stat().st_size + 10, limits[1]))
    try:
        drawn.mark("cut")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    drawn.mark("after")
    drawn.end()
    assert named(json.loads((tmp_path / "run.json").read_text() + "]"), "i") == ["before"]
    assert "File too large" in caplog.text


def test_invalid_path_raises_at_construction(tmp_path):
    for trace, error, text in (
        (3, TypeError, "trace must be the path"),
        ("/", ValueError, "trace must be the path of a file, got '/', which is empty or a folder"),
        ("", ValueError, "which is empty or a folder"),
        (tmp_path / "missing/run.json", ValueError, "an existing folder"),
    ):
        with pytest.raises(error, match=text):
            Loader(Slow(6), trace=trace)


def test_enqueuer_has_trace(tmp_path):
    with started(Slow(6), 1, trace=tmp_path / "enqueuer.json") as enqueuer:
        iter_after(enqueuer.get(), 6)
    assert "compute 5" in named(read(tmp_path / "enqueuer.json"), "X")


# -- Consumers of a server


@pytest.mark.usefixtures("servers_directory")
def test_consumer_writes_its_own_trace(tmp_path):
    with (
        mpqueue.Server("slow", Slow(5), workers=1),
        mpqueue.attach("slow", timeout=30, trace=tmp_path / "run.json") as consumer,
    ):
        for batch in consumer:
            assert batch.shape == (100,)
            time.sleep(0.006)  # the batch is held for this time
        del batch
    events = read(tmp_path / "run.json")
    rows = [event["args"]["name"] for event in events if event["name"] in {"process_name", "thread_name"}]
    assert rows == ["mpqueue: consumer of slow", "consumer"]
    slices = [event for event in events if event["ph"] == "X"]
    used = [event for event in slices if event["name"] != "wait"]
    assert [event["name"] for event in used] == [f"batch {position}" for position in range(5)]
    assert used[1]["args"] == {"epoch": 0, "position": 1}
    assert all(event["dur"] >= 6000 for event in used)
    in_order = sorted(slices, key=lambda event: event["ts"])
    assert all(one["ts"] + one["dur"] <= two["ts"] + 1 for one, two in itertools.pairwise(in_order))
    assert named(events, "b").count("held") == named(events, "e").count("held") == 5
    assert named(events, "i") == ["epoch 0 begins", "epoch 0 ends"]


def test_crash_of_a_server_is_marked(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server, attached(server, trace=tmp_path / "run.json") as consumer:
        batches = iter(consumer)
        server.hang_up()
        for _ in range(2):
            with pytest.raises(ServiceDied):
                next(batches)
    assert named(read(tmp_path / "run.json"), "i") == ["epoch 0 begins", "the server died"]
