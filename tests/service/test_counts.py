"""The trace of a consumer: waits, leases, epochs, and the crash of its server."""

import gc
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.scripted_server import ScriptedServer, attached, batch_of

import mpqueue
from mpqueue.errors import ServiceDied


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
