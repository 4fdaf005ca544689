"""The trace of a consumer: waits, leases, epochs, and the crash of its server."""

import gc
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.scripted_server import ScriptedServer, attached, batch_of

import mpqueue
from mpqueue.errors import ServiceDied
from mpqueue.service import counts
from mpqueue.service.counts import ConsumerRow
from mpqueue.telemetry.clock import EVERY_NS

MS = 1_000_000


class Drawn:
    def __init__(self):
        self.used, self.marks = [], []

    def use(self, consumer, place, began_ns, ended_ns):
        assert consumer is None
        self.used.append((place, began_ns / MS, ended_ns / MS))

    def mark(self, text):
        self.marks.append(text)


def take(row, position, asked_ms, ms):
    """Deliver a batch that was requested earlier."""
    row.let_go(asked_ms * MS)
    row.latest, row.since = SimpleNamespace(epoch=0, position=position), ms * MS


def test_consumer_holds_batch_until_next_request():
    row = ConsumerRow(drawn := Drawn())
    take(row, 4, 100, 100)
    take(row, 5, 112, 120)  # after a wait of 8 ms
    row.let_go(140 * MS)
    row.let_go(150 * MS)
    assert drawn.used == [((0, 4), 100, 112), ((0, 5), 120, 140)]


def test_fast_batches_are_sampled():
    row = ConsumerRow(drawn := Drawn())
    for ms in range(100, 113):
        take(row, ms, ms, ms)
    assert [place for place, _, _ in drawn.used] == [(0, 100), (0, 105), (0, 110)]


def test_leases_are_timed_at_intervals(monkeypatch):
    now, timed = 1_000_000_000, []
    monkeypatch.setattr(counts, "clock_ns", lambda: now)
    ring = SimpleNamespace(time_lease=lambda slot, recorder: timed.append(slot))
    attachment, made = SimpleNamespace(link=SimpleNamespace(wait_ns=0), ring=ring), counts.Counts()
    for slot, later_ns in enumerate((0, 1, EVERY_NS - 2, 1, 1)):
        now += later_ns
        made.note(SimpleNamespace(slot=slot), attachment)
    assert timed == [0, 3]


class Slow:
    def __len__(self):
        return 5

    def __getitem__(self, index):
        time.sleep(0.006)
        return np.full(100, index)


def read(path):
    return json.loads(path.read_text())


def names(events, phase):
    return [event["name"] for event in events if event["ph"] == phase]


@pytest.mark.usefixtures("servers_directory")
def test_consumer_writes_its_own_trace(tmp_path):
    with (
        mpqueue.Server("slow", Slow(), workers=1),
        mpqueue.attach("slow", timeout=30, trace=tmp_path / "run.json") as consumer,
    ):
        for batch in consumer:
            assert batch.shape == (100,)
            time.sleep(0.006)
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
    assert names(events, "b").count("held") == names(events, "e").count("held") == 5
    assert names(events, "i") == ["epoch 0 begins", "epoch 0 ends"]


def test_trace_from_environment_is_complete_after_garbage_collection(tmp_path, monkeypatch):
    monkeypatch.setenv("MPQUEUE_TRACE", str(tmp_path / "run.json"))
    with ScriptedServer(tmp_path / "directory") as server, ThreadPoolExecutor(1) as pool:
        attaching = pool.submit(mpqueue.attach, server.path, timeout=60)
        server.greet()
        consumer = attaching.result(60)
        del attaching
        server.offer(batch_of(0))
        next(iter(consumer))
        del consumer
        gc.collect()
    assert "batch 0" in names(read(tmp_path / "run.json"), "X")


@pytest.mark.usefixtures("servers_directory")
def test_unwritable_trace_is_an_error_and_no_consumer_is_attached(tmp_path):
    with mpqueue.Server("slow", Slow(), workers=1) as server:
        with pytest.raises(OSError, match="File name too long"):
            mpqueue.attach("slow", timeout=30, trace=tmp_path / ("x" * 300))
        with mpqueue.attach("slow", timeout=30) as consumer:
            assert len(list(consumer)) == 5
            assert len(server.statistics().consumers) == 1


def test_server_crash_is_marked(tmp_path):
    with (
        ScriptedServer(tmp_path / "directory") as server,
        attached(server, trace=tmp_path / "run.json") as consumer,
    ):
        batches = iter(consumer)
        server.hang_up()
        for _ in range(2):
            with pytest.raises(ServiceDied):
                next(batches)
    assert names(read(tmp_path / "run.json"), "i") == ["epoch 0 begins", "the server died"]
