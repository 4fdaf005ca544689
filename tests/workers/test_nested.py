"""Workers with their own workers."""

import os
import subprocess

import numpy as np
import pytest
from helpers.computed import Computed
from helpers.faults import Numbers, numbers
from helpers.outside import Trainer
from helpers.started import started

import mpqueue
from mpqueue import Loader, OrderedEnqueuer


class Nested(Numbers):
    """A worker that starts workers."""

    def __getitem__(self, index):
        with OrderedEnqueuer(Numbers(), True) as inner:
            inner.start(2)
            found = numbers(inner.get(), 8)
        mpqueue.shutdown()
        assert found == list(range(8))
        return super().__getitem__(index)


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_worker_may_start_workers(method):
    with started(Nested(), 1, 2, start_method=method) as enqueuer:
        assert numbers(enqueuer.get(), 3) == [0, 1, 2]


def read(index):
    """Return an item that reads a loader without workers."""
    drawn = mpqueue.rng().random(), np.random.random()
    inner = list(Loader([index], workers=0, seed=1))
    return inner[0], *drawn, mpqueue.rng().random(), np.random.random(), mpqueue.worker_info().num_workers


def test_item_that_reads_a_loader_without_workers_keeps_its_own_random_numbers():
    of_process, of_thread, inline = (
        [tuple(map(float, item)) for item in Loader(Computed(read, 3), workers=workers, backend=backend, seed=2)]
        for workers, backend in ((1, "process"), (1, "thread"), (0, "process"))
    )
    assert of_process == inline
    assert [item[:2] + item[3:4] for item in of_thread] == [item[:2] + item[3:4] for item in inline]
    assert {item[-1] for item in of_process + of_thread + inline} == {1}


@pytest.mark.usefixtures("forked_trainers")
def test_crash_of_a_worker_kills_its_workers():
    script = """
        class Nesting(Numbers):
            def __getitem__(self, index):
                inner = OrderedEnqueuer(Numbers(), True)
                inner.start(2)
                next(inner.get())
                say("nested", os.getpid())
                time.sleep(1000)

        enqueuer = OrderedEnqueuer(Nesting(), True, restarts=0)
        enqueuer.start(1, 1)
        try:
            next(enqueuer.get())
        except mpqueue.errors.WorkerDied as error:
            say(error.signal_name)
        mpqueue.shutdown()
        say("shut down")
        sys.stdin.readline()
    """
    with Trainer(script, stdin=subprocess.PIPE) as trainer:
        os.kill(int(trainer.heard().split()[1]), 9)
        assert trainer.heard() == "SIGKILL"
        assert trainer.heard() == "shut down"
        assert trainer.left_nothing(but={trainer.pid})
        trainer.process.stdin.close()
        trainer.process.stdin = None
        assert trainer.ended() == (0, "")
