"""The same seed yields the same stream, and seeds the generators of a source, and torch and NumPy if imported late."""

import pathlib
import random
import sys
import tempfile
import threading
import types
import unittest.mock
from importlib.machinery import PathFinder
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers
from helpers.one_epoch import one_epoch
from helpers.proxies import Proxy, Raising
from helpers.started_enqueuer import started
from helpers.unusual_generators import Stateless, Wrapped

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader
from mpqueue.system.user_code import imports
from mpqueue.system.user_code.imports import Watch
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


def imports_late(index):
    was_imported = "torch" in sys.modules
    import torch

    worker = torch.utils.data.get_worker_info()
    return np.array([index, was_imported, float(torch.rand(())), -1 if worker is None else worker.num_workers])


@pytest.mark.fresh_fork_server
def test_item_that_imports_torch_draws_the_same_numbers_as_in_any_worker():
    pytest.importorskip("torch")  # not by this module, which the workers import
    source = Computed(imports_late, 6)
    with Loader(source, workers=1, seed=5) as loader, Loader(source, workers=0, seed=5) as alone:
        late, expected = np.stack(list(loader)), np.stack(list(alone))
    assert late[:, 1].tolist() == [0, 1, 1, 1, 1, 1]
    assert (late[:, 3] == 1).all() and (expected[:, 3] == -1).all()
    assert late[:, [0, 2]].tolist() == expected[:, [0, 2]].tolist()


def draws_late(index):
    return np.array([index, np.random.rand() if index > 1 else 0.0])


def imports_early(index):
    assert np.random
    return draws_late(index)


@pytest.mark.fresh_fork_server
def test_item_that_first_uses_numpy_random_draws_the_same_numbers_as_after_an_import():
    """NumPy imports the module at its first use."""
    found = []
    for item in (draws_late, imports_early):
        with Loader(Computed(item, 8), workers=1, seed=5) as loader:
            found.append(np.stack(list(loader)))
    assert np.unique(found[0][2:, 1]).size == 6
    assert found[0].tolist() == found[1].tolist()


def install_stub():
    """Install a module of this name, as a program may do."""
    sys.modules["torch"] = types.ModuleType("torch")
    del sys.modules["torch"].__spec__


class WithStub(Computed):
    def __setstate__(self, state):
        vars(self).update(state)
        install_stub()


def import_stub(index):
    if "torch" not in sys.modules:
        folder = tempfile.mkdtemp()
        pathlib.Path(folder, "torch.py").write_text("is_stub = True")
        sys.path.insert(0, folder)
        import torch

        assert torch.is_stub
    return index


@pytest.mark.sample(1)
@pytest.mark.fresh_fork_server
@pytest.mark.parametrize("is_early", [True, False])
def test_module_called_torch_that_is_not_pytorch_is_not_changed(is_early, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # restored after the test
    if is_early:
        install_stub()
    source = WithStub(int, 3) if is_early else Computed(import_stub, 3)
    assert one_epoch(source, workers=1) == [0, 1, 2]
    mpqueue.shutdown()  # the fork server has the stub


def finder_of_watches():
    """Return the finder that calls the watches."""
    return imports._finder


@pytest.fixture
def unwatched(monkeypatch):
    """Take back the watches of earlier tests: a stream without workers watches for torch until the process exits."""
    monkeypatch.setattr(imports, "_watches", [])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder is not finder_of_watches()])


@pytest.mark.usefixtures("unwatched")
def test_loader_without_workers_watches_for_torch_only_while_it_exists(monkeypatch):
    """Each import would call it, and it would keep the source."""
    monkeypatch.setitem(sys.modules, "torch", None)
    before = list(sys.meta_path)
    with Loader([1, 2], workers=0, seed=3) as loader:
        assert list(loader) == [1, 2]
        assert sys.meta_path != before
    assert sys.meta_path == before


# -- The call at an import


@pytest.fixture
def module(tmp_path, monkeypatch, unwatched):
    """Write the code of a module `mpqueue_watched`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code):
        (tmp_path / "mpqueue_watched.py").write_text(code)
        sys.path_importer_cache.clear()
        monkeypatch.delitem(sys.modules, "mpqueue_watched", raising=False)

    yield write
    sys.modules.pop("mpqueue_watched", None)


def test_hook_is_called_once_after_the_code_of_the_module(module):
    module("value = 1")
    finders, calls = list(sys.meta_path), []
    Watch("mpqueue_watched", lambda found: calls.append((found.__name__, found.value)))
    assert not calls
    import mpqueue_watched

    assert calls == [("mpqueue_watched", 1)]
    assert sys.meta_path == finders
    assert "exec_module" not in vars(mpqueue_watched.__spec__.loader)
    Watch("mpqueue_watched", calls.append)
    assert calls[1:] == [mpqueue_watched]


def test_folder_with_the_name_of_a_watched_module_is_imported_as_without_a_watch(module, tmp_path):
    """A folder `torch` in the working directory, for example, is a package without code."""
    module("")
    (tmp_path / "mpqueue_watched.py").unlink()
    (tmp_path / "mpqueue_watched").mkdir()
    watch = Watch("mpqueue_watched", print)
    import mpqueue_watched

    assert list(mpqueue_watched.__path__) == [str(tmp_path / "mpqueue_watched")]
    watch.end()


def test_finder_without_find_spec_is_skipped_as_by_python(module):
    """Finders of the old protocol, such as the finders of old versions of `six`, lack the method."""
    module("value = 1")
    sys.meta_path.insert(0, object())
    watch = Watch("mpqueue_watched", print)
    import mpqueue_watched

    assert mpqueue_watched.value == 1
    watch.end()


def test_many_watches_do_not_multiply_the_search_for_a_missing_module(monkeypatch):
    """Each loader that computes in the caller's process watches for torch, which may not be installed."""
    last = Mock(find_spec=Mock(return_value=None))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, last])
    watches = [Watch("mpqueue_missing", print) for _ in range(12)]
    with pytest.raises(ModuleNotFoundError):
        __import__("mpqueue_missing")
    assert last.find_spec.call_count == 2  # by the import itself, and for all watches
    for watch in watches:
        watch.end()


def test_import_in_progress_survives_the_end_of_a_watch(module, monkeypatch):
    """The import may be of any module in any thread, while a second thread stops a loader."""
    module("")
    monkeypatch.setattr(imports, "_watches", watches := [])
    watch = Watch("mpqueue_never_imported", print)
    ends = types.SimpleNamespace(find_spec=lambda *_: watch.end())  # as another thread may do at this moment
    sys.meta_path.insert(sys.meta_path.index(PathFinder), ends)
    import mpqueue_watched

    assert mpqueue_watched
    assert watch not in watches


def test_watch_that_begins_while_the_last_one_ends_is_kept(monkeypatch):
    has_begun = threading.Event()

    class Finders(list):
        def __iter__(self):
            """Make the second one begin while the first one is about to install its list."""
            found = list(reversed(list(reversed(self))))
            if is_armed and not threads:
                threads.append(threading.Thread(target=lambda: (watches.append(begun()), has_begun.set())))
                threads[0].start()
                has_begun.wait(0.2)  # at once, or after the first thread
            return iter(found)

    def begun():
        return Watch("mpqueue_never_imported", print)

    threads, is_armed = [], []
    monkeypatch.setattr(imports, "_watches", [])
    monkeypatch.setattr(sys, "meta_path", Finders(sys.meta_path))
    watches = [begun()]
    is_armed.append(True)
    watches[0].end()
    threads[0].join()
    assert finder_of_watches() in sys.meta_path
    watches[1].end()
    assert finder_of_watches() not in sys.meta_path
