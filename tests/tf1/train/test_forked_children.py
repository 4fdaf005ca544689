"""Child processes forked by user code in a queue runner must not enqueue elements when they return."""

import numpy as np
import pytest
from backends.test_forked_children import AT, LENGTH, fork
from helpers.faults import burns

import mpqueue

pytestmark = pytest.mark.slow


class Counter:
    def __init__(self, fuse):
        self.number, self.fuse = -1, str(fuse)

    def __call__(self):
        self.number += 1
        if self.number == LENGTH:
            raise mpqueue.errors.OutOfRangeError(None, None, "")
        return -1 if self.number == AT and burns(self.fuse) and fork() else self.number


class Resumable(Counter):
    def state_dict(self):
        return self.number

    def load_state_dict(self, state):
        self.number = state


@pytest.mark.parametrize("source", [Counter, Resumable])
@pytest.mark.parametrize("workers", ["thread", "process"])
def test_forked_child_enqueues_no_elements(source, workers, tmp_path):
    example = mpqueue.Source(source(tmp_path / "fuse"), "int64", [()])
    batch = mpqueue.train.batch([example], LENGTH, workers=workers)
    coordinator = mpqueue.Coordinator()
    threads = mpqueue.start_queue_runners(coord=coordinator)
    assert sorted(np.ravel(batch()).tolist()) == list(range(LENGTH))
    coordinator.request_stop()
    coordinator.join(threads)
    mpqueue.reset_default_graph()
