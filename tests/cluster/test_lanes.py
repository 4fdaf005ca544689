"""Lanes on the nodes of a cluster: snapshots arrive with the batches, and are sent to the next worker of the lane."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.gates import Gate
from helpers.logged_lanes import AtGate, Counted, all_of, computed, rest, running
from helpers.ray_cluster import on

import mpqueue
from mpqueue.errors import WorkerDied

pytestmark = pytest.mark.shared_fork_server


def test_lane_of_killed_worker_on_node_continues_from_snapshot(cluster, tmp_path):
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        source = Counted(tmp_path / "log", at=AtGate(gate.address, tmp_path / "fuse", 1, 8))
        source.is_always_saved = True
        options = on(cluster.others[0].node_id)
        with running(source, workers=2, lanes=4, backend="ray", ray_options=options) as pipeline:
            results = pool.submit(rest, pipeline)
            gate.arrival().kill()
            whole = all_of(Counted(tmp_path / "other"), workers=0, lanes=4)
            assert results.result() == whole
            assert pipeline.backend.statistics().restarts == 1
            assert all(start.state is not None for start in pipeline.progress.point().starts)
    assert all(number >= 6 for (_, number), count in computed(tmp_path / "log").items() if count > 1)


def test_sample_that_crashes_worker_on_node_is_lost_alone(cluster):
    trainer = os.getpid()

    def kills(number):
        if number == 9 and os.getpid() != trainer:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    dataset = mpqueue.Dataset.range(24).map(kills).shuffle(buffer=3).batch(2)
    options = {"backend": "ray", "ray_options": on(cluster.others[0].node_id), "restarts": 1}
    results, errors = [], []
    with mpqueue.Loader(dataset, workers=2, lanes=4, seed=1, **options) as stream:
        batches = iter(stream)
        while True:
            try:
                results += next(batches).tolist()
            except StopIteration:
                break
            except WorkerDied as error:
                errors.append(error)
    assert sorted(results) == [number for number in range(24) if number != 9]
    assert [any("for sample 9 " in note for note in error.__notes__) for error in errors] == [True]
