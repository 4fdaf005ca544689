"""`mpqueue.tf.dataset` with the real TensorFlow: the batches, their order, errors, and the lifetime of their memory."""

import pytest

pytest.importorskip("tensorflow")

import gc
import importlib.util
import pickle
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import tensorflow as tf
from helpers.computed_source import Computed
from helpers.forked_programs import Interpreter
from helpers.kept_batches import last_of
from helpers.keras_environment import lean_environ
from helpers.numbered_batches import Broken, Mixed, Numbered, Point, iter_after, numbers_of
from helpers.tfrecords import FEATURES, described, example, write_records

import mpqueue
from mpqueue import Loader
from mpqueue.tf import dataset


def epochs_of(length, count=2):
    """Return the numbers in the epochs of a loop over a loader."""
    with Loader(Numbered(length), workers=0, shuffle=True, seed=2) as loader:
        return [numbers_of(loader) for _ in range(count)]


def test_order_equals_the_loaders_in_every_epoch():
    expected = epochs_of(20, 3)
    with Loader(Numbered(20), workers=2, shuffle=True, seed=2) as loader:
        made = dataset(loader)
        assert isinstance(made, tf.data.Dataset)
        assert [numbers_of(made) for _ in range(3)] == expected
        assert loader.state_dict()["epoch"] == 3


@pytest.mark.parametrize("length", [1, 3, 5, 9])
@pytest.mark.parametrize("num_peeked", [0, 1, 2])
def test_peek_loses_no_batch_or_epoch(length, num_peeked):
    """Making a dataset peeks at the first batch; a first iteration that takes one or two batches is a peek, too."""
    expected = epochs_of(length)
    with Loader(Numbered(length), workers=1, shuffle=True, seed=2) as loader:
        made = dataset(loader)
        if num_peeked:
            assert numbers_of(made.take(num_peeked)) == expected[0][:num_peeked]
        assert [numbers_of(made) for _ in range(2)] == expected


def test_unfinished_iteration_of_many_batches_is_followed_by_the_next_epoch():
    expected = epochs_of(9)
    with Loader(Numbered(9), workers=1, shuffle=True, seed=2) as loader:
        made = dataset(loader)
        assert numbers_of(made.take(6)) == expected[0][:6]
        assert numbers_of(made) == expected[1]


def test_length_equals_the_loaders():
    with Loader(Numbered(7), workers=1) as loader:
        assert len(dataset(loader)) == 7
    with Loader(lambda: iter([np.ones(2)]), workers=1) as loader, pytest.raises(TypeError, match="unknown"):
        len(dataset(loader))


def test_epoch_resumed_in_its_middle_is_not_an_error():
    with Loader(Numbered(7), workers=1) as loader:
        _unfinished = iter_after(loader, 2)
        state = loader.state_dict()
    with Loader(Numbered(7), workers=1) as loader:
        loader.load_state_dict(state)
        made = dataset(loader)
        assert [numbers_of(made) for _ in range(2)] == [[2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]]


def test_no_batch_is_taken_before_it_is_requested():
    with Loader(Numbered(20), workers=1) as loader:
        _unfinished = iter_after(dataset(loader), 8)
        assert loader.state_dict()["position"] == 8


def test_repeat_and_prefetch_return_whole_epochs():
    with Loader(Numbered(6), workers=2) as loader:
        made = dataset(loader).map(lambda batch: batch + 1).repeat(3).prefetch(2)
        assert numbers_of(made) == [1, 2, 3, 4, 5, 6] * 3


@pytest.mark.parametrize("options", [{}, {"epoch_batches": 20}])
def test_epochs_of_a_stream_equal_the_loaders(options):
    stream = mpqueue.Dataset.range(200).shuffle().filter(lambda x: bool(x % 4)).shuffle(buffer=10).batch(5)
    with Loader(stream, workers=0, seed=0, **options) as loader:
        expected = [[batch.tolist() for batch in loader] for _ in range(2)]
    with Loader(stream, workers=1, seed=0, **options) as loader:
        made = dataset(loader)
        assert [[batch.numpy().tolist() for batch in made] for _ in range(2)] == expected
        assert int(made.cardinality()) == options.get("epoch_batches", -2)
        assert loader.state_dict()["epoch"] == 2


# -- Types


def rows(*inner, dtype=tf.float64):
    """Return the spec of an array with any number of rows."""
    return tf.TensorSpec((None, *inner), dtype)


SPECS = {
    "an array": (np.ones((4, 3), "uint8"), rows(3, dtype=tf.uint8)),
    "a tuple": ((np.ones((4, 3)), np.ones(4, "int64")), (rows(3), rows(dtype=tf.int64))),
    "a list": ([np.ones((4, 3)), np.ones(4)], (rows(3), rows())),
    "a dict": ({"x": np.ones(4), "n": 3}, {"x": rows(), "n": tf.TensorSpec((), tf.int32)}),
    "nested": (({"x": [np.ones(4)]}, None), ({"x": (rows(),)}, tf.NoneTensorSpec())),
    "a named tuple": (Point(np.ones(2), np.ones((2, 2))), Point(rows(), rows(2))),
    "a scalar": (np.float32(2), tf.TensorSpec((), tf.float32)),
    "a flag": (True, tf.TensorSpec((), tf.bool)),
    "text": ("Ada", tf.TensorSpec((), tf.string)),
    "a list of text": (["Ada", "Zoë"], rows(dtype=tf.string)),
    "a list of numbers": ([1.5, 2.5], rows(dtype=tf.float32)),
    "an array of text": (np.array([["Ada"], ["Zoë"]]), rows(1, dtype=tf.string)),
    "an array of objects": (np.array(["Ada", b"Zoe"], object), rows(dtype=tf.string)),
    "half precision": (np.ones(3, tf.bfloat16.as_numpy_dtype), rows(dtype=tf.bfloat16)),
}


@pytest.mark.parametrize("name", SPECS)
def test_element_spec_equals_the_first_batch_with_any_number_of_rows(name):
    batch, spec = SPECS[name]
    with Loader(Computed(lambda _: batch, 2), workers=1) as loader:
        made = dataset(loader)
        assert made.element_spec == spec
        elements = list(made)
    assert len(elements) == 2
    flat = [leaf for leaf in tf.nest.flatten(elements[1]) if leaf is not None]
    assert all(isinstance(leaf, tf.Tensor) for leaf in flat)
    assert made.element_spec == tf.nest.map_structure(lambda leaf: leaf, spec)


def test_examples_of_tfrecord_files_equal_those_that_tensorflow_parses(tmp_path):
    """Here, and not among the tests of files, because importing TensorFlow takes seconds."""
    path = write_records(tmp_path / "a.tfrecord", [example(number) for number in range(50)])
    features = {key: getattr(tf.io, type(value).__name__)(*value) for key, value in FEATURES.items()}
    features = {key: value._replace(dtype=tf.as_dtype(value.dtype)) for key, value in features.items()}
    records = mpqueue.files.TFRecord(path, features=FEATURES, index=tmp_path / "index")
    assert b"tensorflow" not in pickle.dumps(records)
    for record, sample in zip(tf.data.TFRecordDataset(str(path)), records, strict=True):
        expected = tf.io.parse_single_example(record, features)
        expected["words"] = expected["words"].values
        assert described(sample) == described({key: value.numpy() for key, value in expected.items()})


def test_strings_and_numbers_are_returned():
    sample = {name: value for name, value in Mixed()[1].items() if name != "day"}
    with Loader([sample], workers=1) as loader:
        (batch,) = dataset(loader)
    assert batch["names"].numpy().tolist() == [b"1a", b"1b"]
    assert batch["words"].numpy().tolist() == [b"x", b"y"]
    assert batch["none"] is None
    assert int(batch["number"]) == 1
    assert batch["pixels"].numpy().tolist() == [[1, 1, 1]] * 4


def test_first_and_last_batch_may_be_shorter():
    with Loader(Computed(lambda index: np.ones(([2, 4, 1][index], 3), "float32"), 3), workers=1) as loader:
        assert [batch.shape[0] for batch in dataset(loader)] == [2, 4, 1]


def test_leaf_that_cannot_become_a_tensor_is_named():
    with Loader(Mixed(), workers=1) as loader, pytest.raises(TypeError, match=r"batch\['day'\] is .* datetime64\[D\]"):
        dataset(loader)


def test_later_batch_of_another_shape_is_rejected_by_tensorflow():
    with Loader(Computed(lambda index: np.ones((2, 3 + index)), 2), workers=1) as loader:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"shape \(2, 4\) .* shape \(None, 3\) was expected"):
            list(dataset(loader))


# -- Errors


@pytest.mark.parametrize("workers", [0, 2])
def test_error_is_raised_after_earlier_batches_and_loader_continues(workers):
    found = []
    with Loader(Broken(), workers=workers) as loader:
        batches = iter(dataset(loader))
        with pytest.raises(tf.errors.OpError, match="LookupError: batch 3 is damaged") as caught:
            found.extend(batches)
        assert "raised for index 3 of epoch 0" in str(caught.value)
        assert numbers_of(found) == [0, 1, 2]
        assert numbers_of(batches) == [4]


@pytest.mark.parametrize("error", [OSError, IndexError])
def test_an_error_of_the_first_batch_is_raised_when_the_dataset_is_made(error):
    class Bad(Numbered):
        def __getitem__(self, index):
            raise error("gone bad")

    with Loader(Bad(), workers=1) as loader, pytest.raises(error, match="gone bad"):
        dataset(loader)


def test_dataset_of_tensorflow_is_rejected_as_a_source_with_a_remedy():
    with pytest.raises(TypeError, match=r"pass a generator function that .* `dataset\.as_numpy_iterator\(\)`"):
        Loader(tf.data.Dataset.range(3))


def test_loader_without_batches_is_rejected():
    def nothing():
        mpqueue.worker_info()
        yield from ()

    with Loader(nothing, workers=1) as loader, pytest.warns(UserWarning, match="of .*nothing is empty"):
        with pytest.raises(ValueError, match="has no batches"):
            dataset(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_at_the_end_of_an_epoch_is_raised_after_its_last_batch(workers):
    class Ending(Numbered):
        def on_epoch_end(self):
            raise LookupError("the hook failed")

    found = []
    with Loader(Ending(), workers=workers) as loader:
        with pytest.raises(tf.errors.OpError, match="the hook failed"):
            found.extend(dataset(loader))
        assert numbers_of(found) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_reader_that_only_counts_batches_gets_consecutive_epochs(length, workers):
    class Stateful(Numbered):
        state = 0

        def on_epoch_end(self):
            self.state += 1

        def __getitem__(self, index):
            return np.full(2, 100 * self.state + index)

        def state_dict(self):
            return {"state": self.state}

        def load_state_dict(self, state):
            self.state = state["state"]

    found = []
    with Loader(Stateful(length), workers=workers) as loader:
        made = dataset(loader)
        for _ in range(4):
            batches = iter(made)
            found.append([next(batches).numpy()[0] for _ in range(length)])
            del batches
        epochs = [[100 * epoch + index for index in range(length)] for epoch in range(4)]
        assert found == (epochs if length > 1 else [epochs[0], *epochs[:3]])  # an iteration of one batch may be a peek
        assert loader.state_dict()["epoch"] == (4 if length > 1 else 3)


def test_object_that_is_not_a_loader_is_rejected():
    with pytest.raises(TypeError, match=r"needs a mpqueue\.Loader, got Numbered"):
        dataset(Numbered())


# -- Lifetime of memory


@pytest.mark.parametrize("kept", [1, 100], ids="{} kept".format)
def test_slot_is_not_overwritten_while_a_tensor_exists(kept):
    with Loader(Numbered(600), workers=2, max_queue_size=4) as loader:
        old = last_of(dataset(loader), kept, every=97)
    assert numbers_of(old) == list(range(600 - kept, 600))


def test_slot_is_not_overwritten_while_a_derived_tensor_exists():
    """Examples are slices, NumPy views of a tensor, and results of in-place operations."""
    for use in (
        lambda batch: batch[2:5],
        lambda batch: batch.numpy(),
        tf.identity,
        tf.function(lambda batch: batch * 1),
    ):
        with Loader(Numbered(200), workers=2, max_queue_size=2) as loader:
            assert numbers_of(last_of(dataset(loader), 5, use=use)) == list(range(195, 200))


def test_dropped_tensors_release_their_slots():
    with Loader(Numbered(500), workers=2, max_queue_size=4) as loader:
        for batch in dataset(loader):
            del batch
        gc.collect()
        assert loader.statistics().copies == 0


# Keras on TensorFlow: in a separate program, because another test may use another backend

HEAD = """
import os
os.environ["KERAS_BACKEND"] = {backend!r}
import sys
sys.path.insert(0, {tests!r})
for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
    del sys.modules[name]  # TensorFlow has imported Keras with its own backend
import keras, numpy as np
from helpers.fit_datasets import Marked
import mpqueue, mpqueue.tf
assert keras.backend.backend() == {backend!r}
eagerly = keras.backend.backend() == "tensorflow"  # for short loaders: to trace each fit's graph costs most
received = []
give = mpqueue.frameworks.tf._Feed.next
def spy(feed, epoch):
    batch = give(feed, epoch)
    received.append(tuple(int(number) for number in np.rint(batch[0][0, :2] / Marked.SCALE)))
    return batch
mpqueue.frameworks.tf._Feed.next = spy
"""

# A fit takes one epoch of the loader for each of its epochs. A peek and a short epoch may have the same length, so Keras
# reports peeks.
FITS = """
def model_of(kind):
    model = keras.Sequential([keras.layers.Dense(1)])
    if kind == "built":
        model.build((None, 4))
    model.compile("sgd", "mse", run_eagerly=eagerly)
    return model
class Given(Marked):
    def state_dict(self):
        return self.state
for length in lengths:
    epochs = [[(number, epoch) for number in range(length)] for epoch in range(4)]
    for kind in ("built", "plain"):
        received.clear()
        with mpqueue.Loader(Given(length), workers=1) as loader:
            data = mpqueue.tf.dataset(loader)
            model_of(kind).fit(data, epochs=3, verbose=0, shuffle=False)
            assert received[-3 * length:] == sum(epochs[:3], []), (kind, length, received)
            looked = received[:-3 * length]
            assert looked == epochs[0][:len(looked)], (kind, length, received)
            loader.state_dict()  # ends an epoch that is due
            assert loader.source.state == 3, (kind, length, loader.source.state)
    received.clear()
    with mpqueue.Loader(Given(length), workers=1) as loader:
        data = mpqueue.tf.dataset(loader)
        model = model_of("built")
        for _ in range(3):
            model.predict(data, verbose=0)
        model.evaluate(data, verbose=0)
        assert received[: 3 * length] == sum(epochs[:3], []), (length, received)
        assert received[-length:] == epochs[3], (length, received)
        loader.state_dict()
        assert loader.source.state == 4
"""


# JAX as on a machine with an accelerator.
READS_AHEAD = """
import jax
jax.default_backend = lambda: "gpu"
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_fit_takes_one_epoch_of_the_loader_per_epoch(backend, with_tensorflow, tmp_path):
    for module in ("keras", backend):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    rounds = {
        "tensorflow": ["lengths = 1, 2, 3, 5", FITS],
        "jax": ["lengths = 1, 2, 3, 5", FITS, "lengths = 1, 2, 3", READS_AHEAD, FITS],
        "torch": ["lengths = (5,)", FITS],
    }
    head = HEAD.format(tests=str(Path(__file__).parents[1]), backend=backend)
    (tmp_path / "program.py").write_text("\n".join([head, *rounds[backend]]), "utf-8")
    # Keras imports torch before TensorFlow: after TensorFlow, torch's CUDA build ends with SIGSEGV (its package triton).
    with (
        lean_environ() as environ,
        Interpreter("torch", environ=environ) if backend == "torch" else nullcontext(with_tensorflow) as interpreter,
    ):
        status, _, errors = interpreter.run([tmp_path / "program.py"], tmp_path, environ, timeout=280)
    assert status == 0, errors[-3000:]


# -- Ragged batches

TEXTS = [{"tokens": np.arange(number % 4), "image": np.ones((number % 3, 2), np.float32)} for number in range(9)]


@pytest.mark.parametrize("workers", [0, 1])
def test_ragged_batches_become_ragged_tensors(workers):
    with Loader(TEXTS, batch_size=4, collate="ragged", workers=workers) as loader:
        made = dataset(loader).map(lambda batch: {name: mpqueue.tf.to_ragged(each) for name, each in batch.items()})
        for _ in range(2):
            batches = list(made)
            assert all(isinstance(each, tf.RaggedTensor) for batch in batches for each in batch.values())
            tokens = [text for batch in batches for text in batch["tokens"].to_list()]
            images = [image for batch in batches for image in batch["image"].to_list()]
            assert tokens == [text["tokens"].tolist() for text in TEXTS]
            assert images == [text["image"].tolist() for text in TEXTS]
            assert batches[0]["image"].shape.as_list() == [4, None, 2]


def test_ragged_tensor_of_arrays():
    ragged = mpqueue.tf.to_ragged(mpqueue.Ragged(np.arange(3), np.array([0, 1, 1, 3])))
    assert ragged.to_list() == [[0], [], [1, 2]]
