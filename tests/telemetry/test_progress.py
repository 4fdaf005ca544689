"""``progress=True``: a bar for each epoch, which tells rates, and costs no batch."""

import io
import re
import signal
import subprocess
import sys

import pytest
from helpers.faults import Numbers

import mpqueue
from mpqueue import Loader, progress


@pytest.fixture
def shown(monkeypatch):
    """What bars have drawn."""
    text = io.StringIO()
    plain = progress.bar_class()
    monkeypatch.setattr(progress, "bar_class", lambda: lambda **options: plain(file=text, mininterval=0, **options))
    return text


@pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 1), ("process", 0)])
def test_each_epoch_has_a_bar_to_its_end(shown, backend, workers):
    with Loader(Numbers(5), workers=workers, backend=backend, progress=True) as loader:
        assert [[int(batch[0]) for batch in loader] for _ in range(2)] == [[0, 1, 2, 3, 4]] * 2
    text = shown.getvalue()
    for epoch in range(2):
        assert re.search(rf"Numbers, epoch {epoch}: 100%.*5/5 .*batches/s.*waits", text)


def test_the_bar_tells_bytes_ring_and_waits(shown):
    with Loader(Numbers(5), workers=1, progress=True) as loader:
        list(loader)
    assert re.search(r"B/s, ring \d+/\d+, waits \d+ %", shown.getvalue())


def test_an_enqueuer_has_a_bar_too(shown):
    enqueuer = mpqueue.OrderedEnqueuer(Numbers(3), use_multiprocessing=True, progress=True)
    enqueuer.start(workers=1)
    batches = enqueuer.get()
    assert [int(next(batches)[0]) for _ in range(6)] == [0, 1, 2] * 2
    enqueuer.stop()
    assert "Numbers, epoch 1" in shown.getvalue()


@pytest.mark.parametrize("workers", [1, 0])
def test_the_bar_of_a_loop_that_was_left_ends_with_the_loader(shown, workers):
    with Loader(Numbers(5), workers=workers, progress=True) as loader:
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        assert not shown.getvalue().endswith("\n")
    assert re.search(r"3/5 [^\r]*\n$", shown.getvalue())


def test_a_generator_has_a_bar_without_an_end(shown):
    def stream():
        yield from range(4)

    with Loader(stream, workers=1, progress=True) as loader:
        assert list(loader) == [0, 1, 2, 3]
    assert "4 batches" in shown.getvalue()


def test_without_it_nothing_stands_around_next():
    with Loader(Numbers(3), workers=1) as loader:
        next(iter(loader))
        assert "next" not in vars(loader._engine.pipeline)


def test_a_signal_in_the_bar_loses_no_batch(shown, monkeypatch):
    def strike(bar):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)

    got = []
    with Loader(Numbers(4), workers=1, progress=True) as loader:
        batches = iter(loader)
        got.append(int(next(batches)[0]))
        monkeypatch.setattr(progress.Progress, "_step", strike)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        got += [int(batch[0]) for batch in batches]
    assert got == [0, 1, 2, 3]


def test_without_tqdm_the_constructor_names_the_extra():
    code = "import sys; sys.modules['tqdm'] = None; import mpqueue; mpqueue.Loader([1, 2], progress=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == 'ImportError: progress=True needs tqdm: pip install "mpqueue[progress]"'


def test_it_is_true_or_false():
    with pytest.raises(TypeError, match="progress must be True or False"):
        Loader(Numbers(3), progress="yes")
