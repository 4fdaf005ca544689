"""A batch that a consumer cannot unpickle raises one error there; the server and other consumers are not affected."""

import os
import signal

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.numbered_batches import taken
from helpers.signal_handlers import handling, raising

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.serving.server import Server

pytestmark = pytest.mark.usefixtures("servers_directory")

HERE = os.getpid()
AT, LENGTH = 2, 6

SERVER = """
import sys
import types
import numpy as np
import mpqueue

module = types.ModuleType("mpqueue_test_of_the_server")
exec("class Thing:\\n    pass", module.__dict__)
sys.modules[module.__name__] = module
MAKE = {"object": module.Thing, "spec": lambda: {module.Thing: np.zeros(3)}}[sys.argv[2]]

things = mpqueue.Dataset.range(6).map(lambda index: (np.full(3, index), MAKE() if index == 2 else index))
with mpqueue.Server("things", things, mode="broadcast", workers=1, start_method="fork") as server:
    print("ready", flush=True)
    server.wait()
"""


class Fragile:
    """Cannot be unpickled in this process."""

    strikes: list[int] = []  # instead, these signals arrive, once each

    def __init__(self):
        self.array = np.arange(5000.0)

    def __setstate__(self, state):
        if os.getpid() == HERE:
            if not self.strikes:
                raise ValueError("cannot be loaded here")
            if number := self.strikes.pop(0):
                signal.raise_signal(number)


def source_of(*at):
    """Return a source with a `Fragile` in these samples."""
    return Computed(lambda index: (np.full(3, index), Fragile() if index in at else index), LENGTH)


def test_unreadable_batch_is_an_error_in_its_place_and_stream_continues():
    with Server("s", source_of(AT), workers=1), mpqueue.attach("s", timeout=60) as consumer:
        for epoch in range(2):
            results = taken(iter(consumer))
            shown = [each if isinstance(each, int) else str(each) for each in results]
            assert shown == [0, 1, "cannot be loaded here", 3, 4, 5]
            note = f"raised in this process, when the batch of position {AT} of epoch {epoch} was unpickled"
            assert results[AT].__notes__ == [note]
        assert consumer.statistics().batches == 2 * (LENGTH - 1)


def test_kept_errors_keep_no_slots():
    with (
        Server("s", source_of(*range(LENGTH)), workers=1, max_queue_size=2) as server,
        mpqueue.attach("s", timeout=60) as consumer,
    ):
        kept = [error for _ in range(8) for error in taken(iter(consumer))]
        assert [str(error) for error in kept] == ["cannot be loaded here"] * 8 * LENGTH
        assert consumer.statistics().slots_in_use == 0
        assert consumer.statistics().copies == 0
        assert server.statistics() is not None


@pytest.mark.parametrize(("form", "kind", "text"), [
    ("object", ModuleNotFoundError, "mpqueue_test_of_the_server"),
    ("spec", ServiceError, "cannot be imported .*mpqueue_test_of_the_server.*install its module"),
])  # fmt: skip
def test_class_known_only_to_server_is_an_error(start_server_script, form, kind, text):
    start_server_script(SERVER, form)
    with mpqueue.attach("things", timeout=60) as consumer:
        for _ in range(2):
            results = taken(iter(consumer))
            with pytest.raises(kind, match=text):
                raise results.pop(AT)
            assert results == [0, 1, 3, 4, 5]


class Interrupted(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGUSR1, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
def test_exception_of_signal_handler_is_an_interrupt_and_batch_arrives(number, kind, monkeypatch):
    monkeypatch.setattr(Fragile, "strikes", [number, 0, 0])
    with (
        handling(raising(Interrupted), signal.SIGUSR1),
        Server("s", source_of(AT), workers=1),
        mpqueue.attach("s", timeout=60) as consumer,
    ):
        batches = iter(consumer)
        assert [int(next(batches)[0][0]) for _ in range(AT)] == [0, 1]
        with pytest.raises(kind):
            next(batches)
        assert taken(batches) == [2, 3, 4, 5]
