"""The thread that ends an epoch early is optional."""

import threading

from mpqueue import Loader


def test_hook_runs_in_the_next_call_if_no_thread_can_be_started(monkeypatch):
    begin = threading.Thread.start

    def start(thread):
        if thread.name == "mpqueue-epoch-end":
            raise RuntimeError("can't start new thread")
        begin(thread)

    class Counting:
        ends = 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return index

        def on_epoch_end(self):
            self.ends += 1

    monkeypatch.setattr(threading.Thread, "start", start)
    source = Counting()
    with Loader(source, workers=1, backend="thread") as loader:
        batches = iter(loader)
        assert [next(batches), next(batches)] == [0, 1]
        assert source.ends == 0
        assert next(batches, None) is None
        assert source.ends == 1
