"""Signals in the trainer: Ctrl-C at any moment, handlers that raise or stop, and SIGTERM; the exit is clean and prompt.

The scripts interrupt themselves where the moment matters: a process handles a signal that it sends to itself before its
next line. Other moments are interrupted from outside.
"""

import contextlib
import signal

import pytest
from helpers.faults import Growing, Numbers
from helpers.injected_exceptions import Struck, each_strike
from helpers.trainer_processes import Trainer

from mpqueue import OrderedEnqueuer

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("forked_trainers")]

WAITING = """
class Waiting(Numbers):
    def __getitem__(self, index):
        if index >= 4:
            say("waiting", index)
            hang()
        return super().__getitem__(index)
"""
READING = f"""{WAITING}
enqueuer = OrderedEnqueuer(Waiting(), True)
enqueuer.start(2)
for batch in enqueuer.get():
    pass
"""


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_ctrl_c_in_next_is_prompt_and_workers_print_nothing(method):
    """Ctrl-C goes to the whole process group of a terminal."""
    script = f"""{WAITING}
enqueuer = OrderedEnqueuer(Waiting(), True, start_method="{method}")
try:
    enqueuer.start(2)
    for batch in enqueuer.get():
        pass
except KeyboardInterrupt:
    enqueuer.stop()
    say("interrupted")
"""
    with Trainer(script) as trainer:
        assert {trainer.heard(), trainer.heard()} == {"waiting 4", "waiting 5"}
        trainer.hears(signal.SIGINT, all_of_it=True)
        assert trainer.heard() == "interrupted"
        assert trainer.ended() == (0, "")
        assert trainer.left_nothing()


@pytest.mark.parametrize(
    ("number", "codes", "num_tracebacks"),
    [(signal.SIGINT, (-signal.SIGINT, 130), 1), (signal.SIGTERM, (-signal.SIGTERM,), 0)],
    ids=["ctrl-c", "sigterm"],
)
def test_uncaught_signal_leaves_nothing_but_a_traceback_of_ctrl_c(number, codes, num_tracebacks):
    with Trainer(READING) as trainer:
        assert {trainer.heard(), trainer.heard()} == {"waiting 4", "waiting 5"}
        trainer.hears(number, all_of_it=number == signal.SIGINT)
        code, output = trainer.ended()
        assert code in codes, output
        assert output.count("Traceback") == num_tracebacks
        assert bool(output) == bool(num_tracebacks)
        assert trainer.left_nothing()


@pytest.mark.parametrize(
    "batches",
    [
        "Loader(Numbers(), workers=2)",
        "Loader(Numbers(), workers=2, backend='thread')",
        "Loader(Numbers(), workers=0)",
        "Loader(Dataset(Numbers()).filter(lambda each: True).shuffle(4).batch(2), workers=2)",
    ],
    ids=["processes", "threads", "none", "stream"],
)
def test_ctrl_c_is_the_exit_status_of_a_program_with_workers(batches):
    """An exit function that imports a module with a named tuple, which evaluates a string, would make it 1."""
    script = f"""
import os, signal
from mpqueue import Dataset, Loader
next(batches := iter({batches}))
os.kill(os.getpid(), signal.SIGINT)
"""
    with Trainer(script) as trainer:
        code, output = trainer.ended()
        assert code in (-signal.SIGINT, 130), output
        assert trainer.left_nothing()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "step"), [("forkserver", 29), ("fork", 89)])  # both share most of the code
def test_interrupt_in_start_leaves_nothing_and_next_start_works(method, step):
    enqueuer = OrderedEnqueuer(Numbers(), True, start_method=method)
    for _, strike in each_strike(step, least=100):
        with strike, contextlib.suppress(Struck):
            enqueuer.start(2)
        enqueuer.stop()
        enqueuer.start(1)
        assert next(enqueuer.get())[0] == 0
        enqueuer.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "step"), [("forkserver", 7), ("fork", 31)])
def test_interrupted_stop_can_be_repeated(method, step):
    enqueuer = OrderedEnqueuer(Numbers(), True, start_method=method)
    for _, strike in each_strike(step):
        enqueuer.start(1)
        assert next(enqueuer.get())[0] == 0
        with strike, contextlib.suppress(Struck):
            enqueuer.stop()
        enqueuer.stop()


@pytest.mark.parametrize("processes", [True, False])
def test_ctrl_c_in_on_epoch_end_is_raised_once(processes):
    class Interrupted(Growing):
        def on_epoch_end(self):
            super().on_epoch_end()
            if self.epoch == 1:
                signal.raise_signal(signal.SIGINT)

    with OrderedEnqueuer(Interrupted(2), processes) as enqueuer:
        enqueuer.start(1)
        assert [int(next(enqueuer.get())[0]) for _ in range(2)] == [0, 1]
        with pytest.raises(KeyboardInterrupt):
            next(enqueuer.get())
        assert [int(next(enqueuer.get())[0]) for _ in range(4)] == [100, 101, 200, 201]


def test_second_ctrl_c_during_cleanup_leaves_nothing():
    """The first arrives after `start`, the second during the following `stop`, which waits for a stuck worker."""
    script = """
        class Stubborn(Numbers):
            def __getitem__(self, index):
                signal.signal(signal.SIGTERM, lambda *_: say("terminated"))
                say("working")
                hang()

        try:
            with OrderedEnqueuer(Stubborn(), True) as enqueuer:
                enqueuer.start(1)
                say("started")
                next(enqueuer.get())
        except KeyboardInterrupt:
            say("interrupted")
    """
    with Trainer(script) as trainer:
        assert {trainer.heard(), trainer.heard()} == {"working", "started"}
        trainer.hears(signal.SIGINT)
        assert trainer.heard() == "terminated"
        trainer.hears(signal.SIGINT)
        assert trainer.heard() == "interrupted"
        assert trainer.ended() == (0, "")
        assert trainer.left_nothing()


@pytest.mark.parametrize(("processes", "exits"), [(True, False), (False, False), (True, True)])
def test_handler_that_stops_ends_waiting_stream_or_program(processes, exits):
    script = f"""{WAITING}
def handle(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would kill: the interpreter's exit takes handlers away
    enqueuer.stop()
    {"sys.exit(7)" if exits else ""}

enqueuer = OrderedEnqueuer(Waiting(), {processes})
signal.signal(signal.SIGTERM, handle)
enqueuer.start(1, 1)
say(*(int(batch[0]) for batch in enqueuer.get()))
say(enqueuer)
"""
    with Trainer(script) as trainer:
        assert trainer.heard() == "waiting 4"
        trainer.hears(signal.SIGTERM)
        if not exits:
            assert trainer.heard() == "0 1 2 3"
            assert "stopped" in trainer.heard()
        assert trainer.ended() == (7 if exits else 0, "")
        assert trainer.left_nothing()
