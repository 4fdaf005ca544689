"""How sources reach the workers: the sent data, which changes are sent again, and sources that cannot be sent."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import types

import numpy as np
import psutil
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers
from helpers.one_epoch import one_epoch
from helpers.started_enqueuer import started
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import OrderedEnqueuer
from mpqueue.backends.sending import source_watch
from mpqueue.backends.sending.source_send import find_digests, take_image
from mpqueue.backends.sending.source_watch import SourceWatch

pytestmark = [pytest.mark.sample(2), pytest.mark.shared_fork_server]


def test_only_changes_are_sent_again_to_other_machines():
    source = rows, _ = np.zeros((50_000, 4)), np.ones((50_000, 2))
    before = take_image(source, is_local=False)
    rows[3, 0] = 5
    image = take_image(source, is_local=False)
    patch = image.patch(find_digests(image, before.digests))
    assert [buffer.nbytes for buffer in patch.new.values()] == [rows.nbytes]
    assert len(patch.old) == 1
    assert take_image(source, is_local=False).fingerprint == image.fingerprint != before.fingerprint


def test_parked_pool_is_reused_and_files_of_its_workers_are_closed(tmp_path):
    path, held = tmp_path / "held", []
    path.write_text("x")

    def hold(_):
        held.append(open(path))
        return os.getppid()

    def holders():
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [file for file in process.open_files() if file.path == str(path)]
        return found

    with started(Computed(hold), 2) as enqueuer:
        fork_server = next(enqueuer.get())
        assert holders()
        enqueuer.stop()
        assert not holders()
        enqueuer.start(1)
        assert next(enqueuer.get()) == fork_server
        enqueuer.stop()
    mpqueue.shutdown()
    assert not psutil.pid_exists(fork_server)


def test_source_that_cannot_be_pickled_is_inherited_by_fork_with_one_warning():
    source = Numbers()
    source.inner = {"deep": [threading.Lock()]}
    with OrderedEnqueuer(source, True) as enqueuer:
        problem = r"\.inner\['deep'\]\[0\] cannot be pickled.*forked from this process"
        with pytest.warns(RuntimeWarning, match=problem) as caught:
            enqueuer.start(2)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert next(enqueuer.get())[0] == 0


def test_bound_methods_loggers_modules_and_closures_can_be_sent():
    offset = 5
    source = Numbers()
    enqueuer = OrderedEnqueuer(source, True)
    source.on_error = enqueuer.stop
    source.log, source.math, source.shift = logging.getLogger("data"), np.linalg, lambda x: x + offset
    with enqueuer:
        enqueuer.start(2)
        assert next(enqueuer.get())[0] == 0


def test_worker_init_runs_once_in_each_worker_before_its_first_item(tmp_path):
    def init():
        (tmp_path / str(mpqueue.worker_info().id)).write_text(str(os.getpid()))

    def check(_):
        return (tmp_path / str(mpqueue.worker_info().id)).read_text() == str(os.getpid())

    assert one_epoch(Computed(check, 4), workers=2, worker_init=init) == [True] * 4
    assert mpqueue.worker_info() is None


def run(command, folder, *path, **options):
    """Run an interpreter in a folder, with this package and other folders in its path."""
    path = os.pathsep.join([os.path.dirname(os.path.dirname(mpqueue.__file__)), *path])
    options |= {"cwd": folder, "env": {**os.environ, "PYTHONPATH": path}, "timeout": 60}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)


PROGRAM = """
import numpy as np
import helper_of_the_script
from mpqueue import OrderedEnqueuer
class Data:
    scale = (lambda x: 2 * x)
    def __len__(self): return 3
    def __getitem__(self, index):
        if index == 2:
            raise Mine("two")
        return np.array([helper_of_the_script.shift(Data.scale(index))])
class Mine(Exception):
    pass
print("main runs")
enqueuer = OrderedEnqueuer(Data(), True)
enqueuer.start(2)
try:
    for batch in enqueuer.get():
        print(batch[0])
except Mine as error:
    print("mine", error)
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("way", ["script", "standard input", "-c"])
def test_program_without_main_guard_works_with_any_start(way, tmp_path):
    (tmp_path / "helper_of_the_script.py").write_text("def shift(x):\n    return x + 10\n")
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    command = {"script": [str(script)], "standard input": ["-"], "-c": ["-c", PROGRAM]}[way]
    done = run(command, tmp_path, str(tmp_path), input=PROGRAM if way == "standard input" else None)
    assert done.stdout == "main runs\n10\n12\nmine two\n", done.stderr
    assert done.stderr == ""


def test_file_of_the_working_directory_does_not_shadow_a_module(tmp_path):
    (tmp_path / "selectors.py").write_text("raise SystemExit('the wrong selectors')\n")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    script = tmp_path / "sub" / "script.py"
    script.parent.mkdir()
    script.write_text("import mpqueue; print(list(mpqueue.Loader([1, 2, 3], workers=2)))")
    done = run([str(script)], tmp_path)
    assert done.stdout == "[1, 2, 3]\n", done.stderr


def test_classes_of_an_installed_package_are_sent_by_name_and_of_a_new_module_by_value(monkeypatch):
    """Otherwise the code of whole packages would be sent, or the workers would lack the class."""
    made, inside = types.ModuleType("made_here"), types.ModuleType("made_here.inside")
    exec("class Thing:\n    text = 'x' * 5000", inside.__dict__)
    for module in (made, inside):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert len(take_image(np.linalg.LinAlgError).data) < 200
    assert len(take_image(inside.Thing()).data) > 5000


LONG = 5_000


class Photos(Numbers):
    """A source as users write it: names, labels and options."""

    def __init__(self):
        super().__init__(4)
        self.paths = [f"photo-{number}.jpg" for number in range(LONG)]
        self.labels = tuple(range(LONG))
        self.sizes = np.arange(100_000)
        self.options = {"size": 224}

    def __getitem__(self, index):
        return f"{self.paths[index]} {self.options['size']}"


class ConstantPhotos(Photos):
    constant = True


def test_unchanged_source_is_not_pickled_again():
    watch = SourceWatch(Photos())
    first, second = watch.take_image(), watch.take_image()
    assert second.data is first.data and len(second.buffers) == len(first.buffers) == 1


def _replace_number_by_equal_bool(photos):
    photos.counts[1] = True


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    "change",
    [
        lambda photos: photos.paths.__setitem__(LONG - 1, "other.jpg"),
        lambda photos: photos.paths.append("more.jpg"),
        lambda photos: photos.paths.pop(),
        lambda photos: photos.paths.sort(),
        lambda photos: photos.paths.__setitem__(7, ["now", "a list"]),
        lambda photos: setattr(photos, "paths", [*photos.paths[1:], "other.jpg"]),
        lambda photos: setattr(photos, "labels", photos.labels[::-1]),
        lambda photos: photos.options.update(size=256),
        _replace_number_by_equal_bool,
    ],
)
def test_any_change_of_a_source_yields_another_image(change):
    photos = Photos()
    photos.counts = list(range(LONG))
    watch = SourceWatch(photos)
    before = watch.take_image()
    assert watch.take_image().data is before.data
    change(photos)
    changed = watch.take_image()
    assert changed.data != before.data
    assert watch.take_image().data is changed.data


def test_change_by_another_thread_during_take_image_is_detected_by_the_next_call(monkeypatch):
    names = [str(number) for number in range(LONG)]

    def change_amid(take, payload, **options):
        if "without" not in options:
            thread = threading.Thread(target=names.__setitem__, args=(3, "other"))
            thread.start()
            thread.join()
        return take(payload, **options)

    watch = SourceWatch(names)
    with monkeypatch.context() as patch:
        wrap(patch, source_watch, "take_image", change_amid)
        first = watch.take_image()
    second = watch.take_image()
    assert second.data is not first.data


@pytest.mark.parametrize(("source", "sees_change"), [(Photos(), True), (ConstantPhotos(), False)])
def test_workers_use_a_changed_source_unless_it_is_constant(source, sees_change):
    with mpqueue.Loader(source, workers=1, max_queue_size=1) as loader:
        assert list(loader) == [f"photo-{number}.jpg 224" for number in range(4)]
        source.paths[0] = "other.jpg"
        assert next(iter(loader)) == ("other.jpg 224" if sees_change else "photo-0.jpg 224")
