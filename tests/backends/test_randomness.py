"""The same seed yields the same stream: with any number of workers, after a crash, and after a resume."""

import os
import random
import signal

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.numbered_batches import iter_after
from helpers.one_epoch import one_epoch
from helpers.started_enqueuer import started

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader

pytestmark = pytest.mark.shared_fork_server


def draw(index):
    """Draw from every kind of generator."""
    return np.array([index, random.random(), np.random.random(), mpqueue.rng().random()])


DRAWING = Computed(draw, 9)


def stream(count, workers, **options):
    with started(DRAWING, workers, shuffle=True, **options) as enqueuer:
        batches = enqueuer.get()
        return [next(batches).tolist() for _ in range(count)]


def test_source_that_changes_itself_without_a_state_cannot_be_resumed():
    source = Computed(draw)
    source.on_epoch_end = lambda: None
    with Loader(source, workers=1) as loader:
        list(loader)
        with pytest.raises(RuntimeError, match=r"state_dict\(\) and load_state_dict"):
            loader.state_dict()


def test_without_a_seed_all_epochs_and_runs_differ():
    drawn = stream(18, 2) + stream(18, 2)
    for column in (1, 2, 3):
        assert len({row[column] for row in drawn}) == len(drawn)


def test_random_seed_makes_the_run_reproducible_and_is_not_consumed(monkeypatch):
    def run():
        from mpqueue.frameworks.enqueuers import base

        monkeypatch.setattr(base, "_uids", iter(range(10)))
        random.seed(5)
        got = stream(9, 2)
        return got, random.random()

    first, second = run(), run()
    assert first == second
    random.seed(5)
    assert random.random() == first[1]


def test_rng_outside_of_a_batch_is_an_error():
    with pytest.raises(RuntimeError, match="inside __getitem__"):
        mpqueue.rng()


def sharded():
    info = mpqueue.worker_info()
    for number in range(info.id, 23, info.num_workers):
        yield number, random.random(), mpqueue.rng().random()


def test_generator_in_a_crashing_worker_is_replayed(tmp_path):
    mark = tmp_path / "died"

    def dying():
        for element in sharded():
            if element[0] == 11 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield element

    with Loader(dying, workers=2, seed=9) as loader:
        assert list(loader) == one_epoch(sharded, workers=2, seed=9)
        assert loader.statistics().deaths == 1


def test_keras_random_seed_is_a_seed():
    def run():
        with GeneratorEnqueuer(sharded, True, 7) as enqueuer:
            enqueuer.start(2)
            return list(enqueuer.get())

    assert run() == run()


def drawing_elements():
    """Draw from the batch's own generator, which threads do not share."""
    yield from ((number, own) for number, _, own in sharded())


@pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])
def test_resumed_generator_function_continues_its_random_numbers(backend, workers):
    options = {"workers": workers, "backend": backend, "seed": 5}
    whole = one_epoch(drawing_elements, **options)
    with Loader(drawing_elements, **options) as loader:
        iter_after(loader, 3)
        state = loader.state_dict()
    with Loader(drawing_elements, **options) as resumed:
        resumed.load_state_dict(state)
        assert list(resumed) == whole[3:]


def test_loaded_seed_seeds_the_global_generators_without_workers():
    """They are seeded for each batch, and restored."""
    with Loader(DRAWING, workers=1, seed=7) as loader:
        state = loader.state_dict()
        expected = [batch.tolist() for batch in loader]
    with Loader(DRAWING, workers=0) as resumed:
        resumed.load_state_dict(state)
        before = random.getstate()
        assert [batch.tolist() for batch in resumed] == expected
        assert random.getstate() == before
