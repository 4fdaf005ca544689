"""The thread that ends an epoch early is optional."""

import threading

from helpers.computed_source import Computed
from helpers.wrapped_functions import wrap

from mpqueue import Loader


def test_hook_runs_in_the_next_call_if_no_thread_can_be_started(monkeypatch):
    def start(begin, thread):
        if thread.name == "mpqueue-epoch-end":
            raise RuntimeError("can't start new thread")
        begin(thread)

    wrap(monkeypatch, threading.Thread, "start", start)
    source, ends = Computed(int, 2), []
    source.on_epoch_end = lambda: ends.append(1)
    with Loader(source, workers=1, backend="thread") as loader:
        batches = iter(loader)
        assert [next(batches), next(batches)] == [0, 1]
        assert ends == []
        assert next(batches, None) is None
        assert ends == [1]
