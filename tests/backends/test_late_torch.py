"""A source that imports torch in its first item gets torch with seeds and worker info; the same for `numpy.random`."""

import pathlib
import sys
import tempfile
import threading
import types
from importlib.machinery import PathFinder
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.one_epoch import one_epoch

import mpqueue
from mpqueue import Loader
from mpqueue.system.user_code import imports
from mpqueue.system.user_code.imports import Watch


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
