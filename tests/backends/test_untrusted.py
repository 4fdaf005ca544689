"""Invalid reports: user code has written to the pipe, or over a batch in its slot.

Such a worker is not trusted anymore: it is killed, another worker computes its batches, and the consumer is not
affected.
"""

import logging
import os
import random

import numpy as np
import pytest
from helpers import simulated_pool
from helpers.simulated_pool import endless_epoch, word_of

from mpqueue.worker.records import NEW_SPEC, REPORT

FIELDS = [
    "magic", "kind", "flags", "slot", "turn", "spec", "header", "nbytes", "high_water", "compute", "copy", "wait",
]  # fmt: skip


def changed(**values):
    """A report with other values in these fields; functions get the right value."""

    def change(_worker, fields):
        new = {name: value(fields[name]) if callable(value) else value for name, value in values.items()}
        return REPORT.pack(*(fields | new).values())

    return change


def half(_worker, fields):
    return REPORT.pack(*fields.values())[:-1]


def no_room_for_the_place(_worker, fields):
    return REPORT.pack(*(fields | {"header": fields["nbytes"] - 8}).values())


def over_the_spec(worker, fields):
    """A correct report of an invalid spec in the slot."""
    start = worker.grant[2] * worker.config.stride
    memory = worker.world.ring.segment.memory
    at, length = np.frombuffer(memory, "<i8", 2, start + fields["header"])
    memory[start + at : start + at + length] = bytes(length)
    return REPORT.pack(*fields.values())


def over_the_place_of_the_spec(at, length):
    def change(worker, fields):
        start = worker.grant[2] * worker.config.stride + fields["header"]
        worker.world.ring.segment.memory[start : start + 16] = np.array([at, length], "<i8").tobytes()
        return REPORT.pack(*fields.values())

    return change


LIES = {
    "half a report": half,
    "no magic number": changed(magic=0x1234),
    "an unknown kind": changed(kind=9),
    "a kind below all others": changed(kind=0),
    "a slot that was not granted": changed(slot=lambda slot: slot + 1),
    "a turn that was not granted": changed(turn=lambda turn: turn + 1),
    "a header after the end of its batch": changed(header=1 << 15, nbytes=1 << 14),
    "a batch beyond its memory": changed(nbytes=1 << 17, high_water=1 << 16),
    "memory beyond the slot's": changed(high_water=1 << 60),
    "a spec that was never sent": changed(flags=0, spec=77),
    "no room for the pointer to a spec": no_room_for_the_place,
    "a wrong place": changed(header=lambda header: header + 8),
    "a source that was never sent": changed(kind=5, turn=5),
    "a release of a slot that it never had": changed(kind=6, slot=5),
    "a release of a slot that does not exist": changed(kind=6, slot=1 << 20),
    "an invalid spec": over_the_spec,
    "a spec after its batch": over_the_place_of_the_spec(0, 1 << 40),
    "a spec before its batch": over_the_place_of_the_spec(-8, 16),
    "a spec with a negative length": over_the_place_of_the_spec(8, -8),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("lie", LIES)
def test_worker_with_an_invalid_report_is_replaced_and_its_batches_computed_again(lie, monkeypatch, caplog):
    lies = [LIES[lie]]

    class Lying(simulated_pool.Worker):
        """Its first report is the one with the spec."""

        def send(self, *values):
            fields = dict(zip(FIELDS, values, strict=True))
            if not lies:
                super().send(*values)
                return
            assert fields["flags"] & NEW_SPEC
            os.write(self.reports, lies.pop()(self, fields))

    monkeypatch.setattr(simulated_pool, "Worker", Lying)
    with simulated_pool.World(simulated_pool.Source([100]), endless_epoch(), 2, 3, random.Random(0).choice) as world:
        with caplog.at_level(logging.WARNING, "mpqueue"):
            found = [world.pipeline.next() for _ in range(9)]
        assert [word_of(batch) for batch in found] == list(range(9))
        assert world.backend.supervision.num_deaths == world.backend.supervision.num_restarts == 1
        assert caplog.text.count("because its pipe contained invalid data") == 1
