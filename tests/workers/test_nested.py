"""Workers that have workers of their own."""

import os
import subprocess

import pytest
from helpers.faults import Numbers, numbers
from helpers.outside import Trainer

import mpqueue
from mpqueue import OrderedEnqueuer


class Nested(Numbers):
    """A worker that has workers."""

    def __getitem__(self, index):
        with OrderedEnqueuer(Numbers(), True) as inner:
            inner.start(2)
            found = numbers(inner.get(), 8)
        mpqueue.shutdown()
        assert found == list(range(8))
        return super().__getitem__(index)


@pytest.mark.parametrize("method", ["nursery", "fork", "spawn"])
def test_a_worker_may_start_workers(method):
    with OrderedEnqueuer(Nested(), True, start_method=method) as enqueuer:
        enqueuer.start(1, 2)
        assert numbers(enqueuer.get(), 3) == [0, 1, 2]


def test_the_death_of_a_worker_takes_its_own_workers_along():
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
