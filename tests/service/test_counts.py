"""The trace of a consumer: waits, leases, epochs, and the crash of its server."""

import itertools
import json
import time

import pytest
from helpers.scripted_server import ScriptedServer, attached
from helpers.slow_sources import Slow

import mpqueue
from mpqueue.errors import ServiceDied


def read(path):
    return json.loads(path.read_text())


def names(events, phase):
    return [event["name"] for event in events if event["ph"] == phase]


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
    assert names(events, "b").count("held") == names(events, "e").count("held") == 5
    assert names(events, "i") == ["epoch 0 begins", "epoch 0 ends"]


def test_server_crash_is_marked(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server, attached(server, trace=tmp_path / "run.json") as consumer:
        batches = iter(consumer)
        server.hang_up()
        for _ in range(2):
            with pytest.raises(ServiceDied):
                next(batches)
    assert names(read(tmp_path / "run.json"), "i") == ["epoch 0 begins", "the server died"]
