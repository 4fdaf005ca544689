"""Lanes on the nodes of a cluster: snapshots come with the batches, and go back to whoever goes on with a lane."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from helpers.gates import Gate
from helpers.laned import AtGate, Counted, all_of, computed, rest, running
from helpers.on_cluster import on


def test_what_a_killed_worker_of_a_node_had_goes_on_from_its_snapshots(cluster, tmp_path):
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        source = Counted(tmp_path / "log", at=AtGate(gate.address, tmp_path / "fuse", 1, 8))
        source.is_always_saved = True
        options = on(cluster.others[0].node_id)
        with running(source, workers=2, lanes=4, backend="ray", ray_options=options) as pipeline:
            found = pool.submit(rest, pipeline)
            arrival = gate.arrival()
            os.kill(arrival.pid, signal.SIGKILL)
            arrival.let_go()
            whole = all_of(Counted(tmp_path / "other"), workers=0, lanes=4)
            assert found.result() == whole
            assert pipeline.backend.statistics().restarts == 1
            assert all(start.state is not None for start in pipeline.place().starts)
    assert all(number >= 6 for (_, number), count in computed(tmp_path / "log").items() if count > 1)
