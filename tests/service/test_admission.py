"""How a restarted server waits for the consumers of a crashed one."""

import os
import subprocess
from types import SimpleNamespace

import pytest
from helpers.service_simulation import Consumer, Simulation, rules_of

from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.service.protocol.handshake import Hello, Resume
from mpqueue.service.serving import checkpoints
from mpqueue.service.serving.admission import Admission
from mpqueue.service.serving.connections import Handlers
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.service.serving.journal import Journal, Survivor, read_journal, started_at

NO_SLOTS = SimpleNamespace(share=None, release=None)


def test_exit_of_process_with_two_consumers_is_handled_once():
    with subprocess.Popen(["sleep", "600"]) as process:
        handlers = Handlers()
        core = Simulation(rules_of(), [1]).core
        admission = Admission(core, None, "job", None, -1, None)  # type: ignore[arg-type]  # no consumer attaches
        survivor = Survivor(process.pid, started_at(process.pid))
        admission.await_survivors([(survivor, {0}), (survivor, ())], handlers, 60.0)
        assert core.awaited == {process.pid: 2}
        process.kill()
        handlers.wait(60.0)
        assert not core.awaited
        admission.close(handlers)
        handlers.close()


@pytest.mark.parametrize(
    ("resume", "noted"),
    [
        (Resume(job="job", epoch=4, taken=(0, 2), count=2), {0: {0, 2}}),
        (Resume(job="job", epoch=5, taken=(0,), count=1, before=(4, 6)), {0: {4, 6}}),
    ],
    ids=["in its epoch", "in the next one"],
)
def test_successor_journals_batches_whose_requests_the_crashed_server_had_not_read(tmp_path, resume, noted):
    """Otherwise a third server could deliver them to another consumer."""
    simulation = Simulation(rules_of(world=2), [], epoch=4)
    simulation.consumers[1] = Consumer(1, 0, 0)
    journal = Journal(str(tmp_path / "journal"), "job", 7)
    journal.begin(4, None)
    seat(simulation, journal, journal.note_taken, resume)
    journal.close()
    assert read_journal(str(tmp_path / "journal")).taken == noted


def seat(simulation, journal, note_taken, resume):
    """Attach consumer 1 of rank 0, which continues after the crash of the previous server."""
    welcome = SimpleNamespace(encode=lambda: b"")
    admission = Admission(simulation.core, journal, "job", lambda _: welcome, -1, note_taken)
    credentials = SimpleNamespace(pid=os.getpid())
    peer = SimpleNamespace(id=1, hello=Hello(rank=0, resume=resume), credentials=credentials, send_welcome=lambda *_: 0)
    admission.seat(peer)


def test_checkpoints_count_batches_that_only_their_consumer_knew(tmp_path, monkeypatch):
    """A checkpoint must not lose them, and must not wait for them either."""
    monkeypatch.setattr(checkpoints, "BETWEEN_S", 0)
    simulation = Simulation(rules_of(world=2), [], epoch=4)
    simulation.consumers[1] = Consumer(1, 0, 0)
    journal = Journal(str(tmp_path / "journal"), "job", 7)
    journal.begin(4, None)
    points = iter([ResumePoint(4, 1), ResumePoint(4, 4)])
    stream = SimpleNamespace(lane_point=lambda: next(points, ResumePoint(4)), slots=NO_SLOTS)
    kept = checkpoints.Checkpoints(journal, stream, simulation.core.rules.mode)
    deliveries = Deliveries(stream, journal, checkpoints=kept)
    seat(simulation, journal, deliveries.journal_taken, Resume(job="job", epoch=4, taken=(2,), count=2))
    for position, rank in ((0, 0), (1, 1), (3, 1), (5, 1)):
        deliveries.journal_taken(position, rank)
    journal.close()
    recovered = read_journal(str(tmp_path / "journal"))
    assert recovered.lanes is not None
    assert recovered.lanes.position == 4
    assert recovered.taken == {0: {2}, 1: {3, 5}}


def test_epoch_waits_for_each_consumer_of_a_process():
    core = Simulation(rules_of(), []).core
    core.await_back(7, [(), ()])
    for number, left in ((1, {7: 1}), (2, {})):
        core.attach(number, Hello(), now=0.0, pid=7)
        assert core.awaited == left
