"""``progress=True``: a bar for each epoch, with rates, which loses no batch."""

import io
import re
import signal
import sys

import pytest
from helpers.faults import Numbers
from helpers.numbered_batches import iter_after
from helpers.started_enqueuer import started

import mpqueue
from mpqueue import Loader
from mpqueue.loader import progress


@pytest.fixture
def shown(monkeypatch):
    """The output of bars."""
    text = io.StringIO()
    plain = progress.bar_class()
    monkeypatch.setattr(progress, "bar_class", lambda: lambda **options: plain(file=text, mininterval=0, **options))
    return text


@pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 1), ("process", 0)])
def test_each_epoch_has_complete_bar(shown, backend, workers):
    with Loader(Numbers(5), workers=workers, backend=backend, progress=True) as loader:
        assert [[int(batch[0]) for batch in loader] for _ in range(2)] == [[0, 1, 2, 3, 4]] * 2
    text = shown.getvalue()
    for epoch in range(2):
        assert re.search(rf"Numbers {epoch}: 100%.*5/5 .*batch/s.*waits", text)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (4, 2), (2, 1)])
def test_bar_of_resumed_epoch_begins_at_its_place(shown, before, after):
    with Loader(Numbers(40), workers=0, shard=(0, before), seed=1) as loader:
        for _ in zip(range(4), loader, strict=False):
            pass
        state = loader.state_dict()
    with Loader(Numbers(40), workers=0, shard=(0, after), seed=1, progress=True) as loader:
        loader.load_state_dict(state)
        first, length = 4 * before // after, 40 // after
        assert len(list(loader)) == length - first
    text = shown.getvalue()
    assert f" {first}/{length} " in text
    assert re.search(rf"100%.* {length}/{length} ", text)


def test_bar_of_dataset_has_public_name(shown):
    with Loader(mpqueue.Dataset.range(4).filter(bool), workers=1, progress=True) as loader:
        assert len(list(loader)) == 3
    assert re.search(r"\bDataset 0: 3 ", shown.getvalue())


def test_enqueuer_has_bar(shown):
    with started(Numbers(3), 1, progress=True) as enqueuer:
        batches = enqueuer.get()
        assert [int(next(batches)[0]) for _ in range(6)] == [0, 1, 2] * 2
    assert "Numbers 1:" in shown.getvalue()


@pytest.mark.parametrize("workers", [1, 0])
def test_bar_of_abandoned_loop_is_closed_with_loader(shown, workers):
    with Loader(Numbers(5), workers=workers, progress=True) as loader:
        _unfinished = iter_after(loader, 3)
        assert not shown.getvalue().endswith("\n")
    assert re.search(r"3/5 [^\r]*\n$", shown.getvalue())


def test_generator_has_bar_without_total(shown):
    def stream():
        yield from range(4)

    with Loader(stream, workers=1, progress=True) as loader:
        assert list(loader) == [0, 1, 2, 3]
    assert re.search(r"stream 0: 4 \[|function 0: 4 \[", shown.getvalue())


def test_signal_in_bar_loses_no_batch(shown, monkeypatch):
    step = progress.ProgressBar.step

    def strike(_bar, _work_item):
        monkeypatch.setattr(progress.ProgressBar, "step", step)
        signal.raise_signal(signal.SIGINT)

    with Loader(Numbers(4), workers=1, progress=True) as loader:
        batches = iter(loader)
        first = int(next(batches)[0])
        monkeypatch.setattr(progress.ProgressBar, "step", strike)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        resumed = loader.state_dict()
        assert [first, *(int(batch[0]) for batch in batches)] == [0, 1, 2, 3]
    with Loader(Numbers(4), workers=1) as loader:
        loader.load_state_dict(resumed)
        assert [int(batch[0]) for batch in loader] == [1, 2, 3]


def test_missing_tqdm_raises_with_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r'^progress=True needs tqdm: pip install "mpqueue\[progress\]"$'):
        Loader([1, 2], progress=True)


def test_progress_must_be_true_or_false():
    with pytest.raises(TypeError, match="progress must be True or False"):
        Loader(Numbers(3), progress="yes")
