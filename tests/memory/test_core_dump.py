"""A core dump of a worker does not contain the ring."""

import pytest
from helpers.computed_source import Computed
from helpers.started_enqueuer import started


def flags_of_ring(_):
    """Return the flags of the ring's mapping in the worker."""
    flags, is_ring = [], False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if "-" in line.split()[0]:
                is_ring = "/dev/shm/#" in line or "/dev/shm/psm_" in line or "/memfd:mpqueue" in line
            elif is_ring and line.startswith("VmFlags:"):
                flags.append(line.split()[1:])
    return flags


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_core_dump_of_worker_does_not_contain_ring(method):
    with started(Computed(flags_of_ring), 1, start_method=method) as enqueuer:
        mappings = next(enqueuer.get())
    assert mappings
    assert all("dd" in flags for flags in mappings)  # "do not include area into core dump", proc(5)
