"""`Statistics.parts` and the states' ``parts``: the samples of each part of a mixture that this rank has returned."""

import itertools
import os
from collections import Counter
from contextlib import ExitStack

import pytest
from helpers.deadlock import DEADLOCK_S

import mpqueue
from mpqueue import Dataset

pytestmark = pytest.mark.sample(2)


def keep(_):
    return True


PARTS = {"web": Dataset.range(50), "code": Dataset.range(1000, 1090)}


def test_parts_of_several_mixes_name_the_stage():
    inner = Dataset.mix({"web": PARTS["web"].filter(keep), "code": PARTS["code"]})
    with mpqueue.Loader(Dataset.mix([inner, PARTS["web"]], [2, 1]).batch(8), workers=0, seed=1, lanes=2) as loader:
        found = Counter(sample for _ in loader for sample in loader.last.samples)
        parts = loader.statistics().parts
    assert list(parts) == ["3: web", "3: code", "5: 0", "5: 1"]
    assert parts["5: 0"] + parts["5: 1"] == found.total()
    assert parts["3: web"] + parts["3: code"] == parts["5: 0"]
    assert parts["3: web"] == sum(count for sample, count in found.items() if sample[:2] == (0, "web"))


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "index"])
@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_a_mixture_of_batches_are_samples(workers, is_stream):
    batches = {name: part.filter(keep).batch(4) if is_stream else part.batch(4) for name, part in PARTS.items()}
    with mpqueue.Loader(Dataset.mix(batches, {"web": 2, "code": 1}), workers=workers, seed=1) as loader:
        found = Counter(web=0, code=0)
        for batch in itertools.islice(loader, 5):
            found.update("web" if sample < 1000 else "code" for sample in batch.tolist())
        assert loader.statistics().parts == loader.state_dict()["parts"] == found


class Telling:
    """Pass all samples, and write a byte for each into a named pipe."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __call__(self, sample):
        with open(self.pipe, "wb", buffering=0) as file:
            file.write(b".")
        return True


class Rank:
    """Loads a mixture, and counts the samples of returned batches itself."""

    def __init__(self, pipe, options):
        os.mkfifo(pipe)
        self.pipe, self.workers, self.counts = os.open(pipe, os.O_RDWR), options["workers"], Counter(web=0, code=0)
        parts = {"web": Dataset.range(600), "code": Dataset.range(1000, 1300)}
        mixed = Dataset.mix(parts, {"web": 2, "code": 1}).filter(Telling(pipe)).shuffle(buffer=16).batch(4)
        self.loader = mpqueue.Loader(mixed, seed=1, lanes=6, **options)

    def take(self, number):
        """Take batches, and check the counts after each, when the workers have filled the buffers of their lanes."""
        unread = 20 * max(1, self.workers)
        for batch in itertools.islice(self.loader, number):
            self.counts.update("web" if sample < 1000 else "code" for sample in batch.tolist())
            while unread > 0:
                unread -= len(os.read(self.pipe, unread))
            self.check()

    def check(self):
        assert self.loader.state_dict()["parts"] == self.counts

    def close(self):
        self.loader.stop(timeout=DEADLOCK_S)  # a busy thread would wait forever for a reader of the pipe
        os.close(self.pipe)


BACKENDS = {
    "inline": {"workers": 0},
    "a process": {"workers": 1},
    "processes": {"workers": 3},
    "threads": {"workers": 3, "backend": "thread"},
}


@pytest.mark.parametrize(
    ("backend", "other"),
    [("inline", "processes"), ("a process", "threads"), ("processes", "inline"), ("threads", "a process")],
)
def test_parts_are_those_of_returned_batches_whatever_workers_have_read(backend, other, tmp_path):
    with ExitStack() as stack:
        first, second = (Rank(str(tmp_path / name), BACKENDS[of]) for name, of in (("a", backend), ("b", other)))
        for each in (first, second):
            stack.callback(each.close)
        first.take(2)
        assert first.loader.statistics().parts == first.counts
        first.loader.exclude(first.loader.last.samples[:1])
        first.check()
        state, counts = first.loader.state_dict(), Counter(first.counts)
        first.take(2)
        second.loader.load_state_dict(state)
        second.counts.update(counts)
        second.check()
        second.take(2)
        assert second.counts.total() == 16
        assert second.loader.statistics().parts == second.counts - counts
        first.loader.load_state_dict(state)
        first.counts = counts
        first.take(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_an_index_count_batches_again_after_a_seek(backend):
    parts = {"web": Dataset.range(60), "code": Dataset.range(1000, 1030)}
    mixed = Dataset.mix(parts, {"web": 2, "code": 1}).batch(4)
    counts = Counter(web=0, code=0)
    with mpqueue.Loader(mixed, seed=1, **BACKENDS[backend]) as loader:
        for _ in range(2):
            for batch in itertools.islice(loader, 3):
                counts.update("web" if sample < 1000 else "code" for sample in batch.tolist())
                assert loader.state_dict()["parts"] == counts
            loader.seek(0, 1)
            assert loader.state_dict()["parts"] == counts
