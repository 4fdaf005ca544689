"""Changes of a source between epochs are detected without pickling long lists again."""

import threading

import numpy as np
import pytest
from helpers.faults import Numbers
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue.backends.sending import source_watch
from mpqueue.backends.sending.source_watch import SourceWatch

pytestmark = pytest.mark.shared_fork_server

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
