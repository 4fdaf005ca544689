"""The same seed yields the same stream, and seeds the generators that a source keeps, like the global ones."""

import random
import unittest.mock

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers
from helpers.proxies import Proxy, Raising
from helpers.started_enqueuer import started
from helpers.unusual_generators import Stateless, Wrapped

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader
from mpqueue.worker.random_state.user_generators import UserGenerators

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


def test_keras_random_seed_is_a_seed():
    def run():
        with GeneratorEnqueuer(sharded, True, 7) as enqueuer:
            enqueuer.start(2)
            return list(enqueuer.get())

    assert run() == run()


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


class Inner:
    def __init__(self):
        self.generator = np.random.default_rng(0)


class Keeping(Numbers):
    """Keeps generators of all kinds, created in its constructor."""

    def __init__(self):
        super().__init__(6)
        self.new = np.random.default_rng(0)
        self.old = np.random.RandomState(0)
        self.python = random.Random(0)
        self.inner = [Inner(), {"deep": Inner()}]

    def __getitem__(self, index):
        deep = self.inner[1]["deep"].generator
        kept = self.new, self.old, self.python, self.inner[0].generator, deep
        return np.array([generator.random() for generator in kept])


class Proxied(Keeping):
    """Keeps the same generators in proxies."""

    def __init__(self):
        super().__init__()
        self.new, self.old, self.python = map(Proxy, (self.new, self.old, self.python))
        self.inner = Proxy(self.inner)


def drawn(workers, source=None, **options):
    with Loader(source or Keeping(), workers=workers, seed=3, **options) as loader:
        return [batch.tolist() for _ in range(2) for batch in loader]


@pytest.mark.parametrize("source", [Keeping, Proxied])
def test_no_two_batches_draw_the_same_numbers(source):
    values = [value for batch in drawn(2, source()) for value in batch]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("workers", [0, 1])
def test_any_number_of_workers_draws_the_same_numbers(workers):
    assert drawn(workers) == drawn(2) == drawn(workers, Proxied())


def test_callers_generators_do_not_change_without_workers():
    source = Keeping()
    drawn(0, source)
    untouched = Keeping()
    assert source[0].tolist() == untouched[0].tolist()


def test_generator_in_a_closure_is_found():
    kept = np.random.default_rng(0)

    def elements():
        for _ in range(3):
            yield kept.random()

    with pytest.warns(UserWarning, match="never called"), Loader(elements, workers=2, seed=1) as loader:
        found = list(loader)
    assert len(set(found)) == 6


@pytest.mark.parametrize("make", [Raising, lambda: unittest.mock.Mock(spec=dict)], ids=["raises", "not a dict"])
def test_object_that_cannot_be_searched_is_skipped(make):
    sources = [Proxied(), Proxied()]
    for source in sources:
        source.odd, source.last = make(), [np.random.default_rng(0)]
    UserGenerators(sources[0]).seed(1, 2, 3)
    assert sources[0].last[0].random() != sources[1].last[0].random()


def test_generator_created_by_the_first_item_is_found():
    class Lazy(Computed):
        generator = None

        def __getitem__(self, index):
            if self.generator is None:
                self.generator = np.random.default_rng(0)
            return index, self.generator.random()

    with Loader(Lazy(None), workers=2, seed=1) as loader:
        list(loader)  # each worker has created its own, at different batches
        following = dict(loader)
    assert len(set(following.values())) == 8


def test_subclass_with_another_state_is_seeded_and_restored():
    source = Keeping()
    source.python = Wrapped(3)
    before = source.python.getstate()
    alone = drawn(0, source)
    assert source.python.getstate() == before
    assert drawn(1, source) == alone


def test_generator_that_cannot_be_restored_is_one_warning_without_workers():
    source = Keeping()
    source.python = Stateless(3)
    with pytest.warns(RuntimeWarning, match="keeps a Stateless that cannot be seeded") as caught:
        assert len(drawn(0, source)) == len(drawn(2))
    assert len([each for each in caught if "Stateless" in str(each.message)]) == 1


def test_generator_that_cannot_be_seeded_is_one_warning():
    class Odd(np.random.RandomState):
        def set_state(self, state):
            raise TypeError("never")

    source = Keeping()
    source.odd = Odd(0)
    kept = UserGenerators(source)
    with pytest.warns(RuntimeWarning, match=r"keeps a Odd that cannot be seeded.*mpqueue.rng\(\)"):
        kept.seed(1, 2, 3)
    kept.seed(1, 2, 4)
