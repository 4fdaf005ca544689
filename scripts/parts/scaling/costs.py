"""The trainer's cost of a batch on this machine, timed: the real dispatcher under load, and the opening of a batch."""

import dataclasses
import time
from typing import Any

import numpy as np

from mpqueue.memory.layout import ReadSpec, load_spec
from mpqueue.memory.ring import Ring
from mpqueue.memory.writer import SlotWriter
from mpqueue.plan.cursors import Ticket
from mpqueue.workers.handle import Work
from parts.scaling.cluster import Cluster
from parts.scaling.simulation import simulation

SATURATING_US = 1_000.0  # a trainer so slow that reports are always there when it looks
BATCHES, OPENED = 2_000, 20_000
ROUNDS = 5  # the best counts: others use the machine, too


def record_us(cluster: Cluster) -> float:
    """Return the microseconds of CPU that a batch costs a trainer of this cluster: from the deal to the views."""
    return round(min(dispatched_us(cluster) + opened_us() for _ in range(ROUNDS)), 1)


def dispatched_us(cluster: Cluster) -> float:
    """Time the dispatcher of one trainer that is busy all the time."""
    nodes = cluster.nodes // cluster.trainers
    busy = dataclasses.replace(
        cluster, nodes=nodes, trainers=1, record_us=max(SATURATING_US, 4e3 * cluster.batch_ms / cluster.workers)
    )
    with simulation(busy) as made:
        made.run(2 * busy.credit_of_trainer)
        return made.measure(BATCHES).cpu_us


def opened_us() -> float:
    """Time what is done with a batch that is handed out: views of its slot, and the end of the lease."""
    ring = Ring(1, 1, copy=False)
    try:
        work = _written(ring)
        began = time.thread_time_ns()
        for _ in range(OPENED):
            batch = work.open()
            del batch
            ring.collect()
            slot = ring.grant(0)
            assert slot is work.slot, "the one that was just let go of"
            ring.slots.publish(slot, slot.high_water)
        return (time.thread_time_ns() - began) / 1e3 / OPENED
    finally:
        ring.close()


def _written(ring: Ring) -> Work:
    """Return a batch of an array and labels, as a worker writes it."""
    batch: Any = (np.zeros((32, 64, 64, 3), np.uint8), np.zeros(32, np.int64))
    slot = ring.grant(0)
    assert slot is not None
    writer = SlotWriter(ring.segment, ring.stride, None)
    writer.begin(slot.number, slot.high_water)
    writer.take([batch])
    placed = writer.place()
    ring.slots.publish(slot, writer.high_water)
    work = Work(Ticket(0, 0, 0, 0), slot, ring)
    memory, start, header = ring.memory, slot.offset, placed.header_offset
    at, length = (int(word) for word in np.frombuffer(memory, "<i8", 2, start + header))
    work.read = ReadSpec(load_spec(memory[start + at : start + at + length]))
    work.header_offset, work.nbytes = header + 16, placed.nbytes
    return work
