"""A core dump of a worker does not contain the ring."""

import pytest
from helpers.faults import Numbers

from mpqueue import OrderedEnqueuer


class Mapped(Numbers):
    """A source of the flags of the ring's mapping in the worker."""

    def __getitem__(self, index):
        flags, is_ring = [], False
        with open("/proc/self/smaps") as maps:
            for line in maps:
                if "-" in line.split()[0]:
                    is_ring = "/dev/shm/#" in line or "/dev/shm/psm_" in line or "/memfd:mpqueue" in line
                elif is_ring and line.startswith("VmFlags:"):
                    flags.append(line.split()[1:])
        return flags


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_core_dump_of_worker_does_not_contain_ring(method):
    with OrderedEnqueuer(Mapped(), True, start_method=method) as enqueuer:
        enqueuer.start(1)
        mappings = next(enqueuer.get())
    assert mappings
    assert all("dd" in flags for flags in mappings)  # "do not include area into core dump", proc(5)
