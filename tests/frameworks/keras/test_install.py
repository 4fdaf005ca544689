"""`install` and `accelerate`: the replaced class, the affected datasets, the duration, and the supported Keras."""

import pytest

pytest.importorskip("keras.utils")

import copy
import functools
import gc
import subprocess
import sys
import tempfile

import keras
import numpy as np
from helpers import fit_datasets
from helpers.computed_source import Computed
from helpers.keras_fits import BACKEND, as_py_dataset, fit
from keras.src.trainers.data_adapters import py_dataset_adapter as adapter

import mpqueue
import mpqueue.keras
from mpqueue.frameworks.keras import accelerate as keras_frontend
from mpqueue.frameworks.keras.accelerate import accelerate, install
from mpqueue.frameworks.keras.passes import PassEnqueuer

STOCK = adapter.OrderedEnqueuer
STOCK(as_py_dataset(fit_datasets.Marked(), 2))  # makes a counter in shared memory that Keras keeps


def enqueuer_for(dataset):
    return adapter.PyDatasetAdapter(dataset).enqueuer


def targets_of(batches, number):
    return [batches[index][1].tolist() for index in range(number)]


@pytest.fixture(autouse=True)
def _is_put_back():
    yield
    gc.collect()
    if BACKEND != "tensorflow":  # TensorFlow keeps accelerated datasets forever
        assert adapter.OrderedEnqueuer is STOCK


def test_install_applies_to_every_dataset_with_workers_until_undone():
    dataset = as_py_dataset(fit_datasets.Marked(), 2, True)
    with install() as installation:
        assert isinstance(enqueuer_for(dataset), PassEnqueuer)
        assert repr(installation) == "<mpqueue.keras.install(), done>"
    assert type(enqueuer_for(dataset)) is STOCK
    assert repr(installation) == "<mpqueue.keras.install(), undone>"


def test_dataset_without_workers_gets_no_enqueuer():
    with install():
        assert enqueuer_for(as_py_dataset(fit_datasets.Marked())) is None


def test_options_of_a_dataset_can_be_set_after_construction():
    with install():
        dataset = as_py_dataset(fit_datasets.Marked())
        dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size = 3, True, 4
        enqueuer = enqueuer_for(dataset)
        assert (enqueuer.workers, enqueuer.use_multiprocessing, enqueuer.max_queue_size) == (3, True, 4)
    fast = accelerate(fit_datasets.Marked(), 2)
    fast.workers, fast.use_multiprocessing = 4, False
    enqueuer = enqueuer_for(fast)
    assert (enqueuer.workers, enqueuer.use_multiprocessing) == (4, False)
    assert repr(enqueuer) == "<Enqueuer of Marked, stopped, 4 threads>"


@pytest.mark.filterwarnings("ignore:Your `PyDataset` class should call")
def test_dataset_without_base_constructor_call_works():
    class Forgetful(keras.utils.PyDataset):
        def __init__(self):
            pass

        def __len__(self):
            return 2

    dataset = Forgetful()
    dataset.workers = 2
    with install():
        assert isinstance(enqueuer_for(dataset), PassEnqueuer)


def test_accelerate_does_not_affect_other_datasets():
    fast = accelerate(fit_datasets.Marked(), 2)
    assert isinstance(enqueuer_for(fast), PassEnqueuer)
    assert type(enqueuer_for(as_py_dataset(fit_datasets.Marked(), 2))) is STOCK
    del fast


def test_accelerate_returns_a_py_dataset_with_the_items_of_the_source():
    source = fit_datasets.Marked(3)
    fast = accelerate(source)
    assert isinstance(fast, keras.utils.PyDataset)
    assert (len(fast), fast.num_batches, fast.source) == (3, 3, source)
    assert fast.workers == mpqueue.loader.loader.num_cpus()
    assert targets_of(fast, 3) == targets_of(source, 3)
    assert repr(fast) == "<Marked, accelerated by mpqueue>"


def test_another_source_can_be_assigned():
    fast = accelerate(fit_datasets.Marked(3), 1)
    fast.source = source = fit_datasets.Marked(4)
    assert (len(fast), fast.num_batches, fast.source) == (4, 4, source)
    assert targets_of(fast, 4) == targets_of(source, 4)
    with pytest.raises(TypeError, match="int"):
        fast.source = 3
    assert fast.source is source
    loader, other = (mpqueue.Loader(fit_datasets.Marked(length), workers=0) for length in (5, 2))
    with loader, other:
        fast = accelerate(loader)
        fast.source = other
        assert (len(fast), fast.source) == (2, other)
        with pytest.raises(TypeError, match="expected another Loader, got Marked"):
            fast.source = fit_datasets.Marked()


class Levels(keras.utils.PyDataset):
    level = _exponent = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.zeros((1, 1), "float32"), np.full((1, 1), self.level + 10 * self._exponent, "float32")


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"workers": 3}, {"workers": 2, "use_multiprocessing": False}, {"workers": 0}]
)
def test_attributes_that_a_callback_sets_reach_the_source(options):
    def raise_level(epoch, logs):
        dataset.level = epoch
        dataset._exponent = 2 * dataset.level

    dataset = accelerate(Levels(), **options)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), "mae")
    raising = keras.callbacks.LambdaCallback(on_epoch_begin=raise_level)
    history = model.fit(dataset, epochs=4, verbose=0, callbacks=[raising]).history
    assert history["loss"] == [0, 21, 42, 63]
    assert (dataset.level, dataset.source.level, vars(dataset.source)["_exponent"]) == (3, 3, 6)
    with pytest.raises(AttributeError, match="levels"):
        _ = dataset.levels
    assert copy.copy(dataset).source is dataset.source


def test_attributes_of_an_accelerated_loader_are_those_of_the_loader():
    with mpqueue.Loader(fit_datasets.Marked(5), workers=0, seed=3) as loader:
        dataset = accelerate(loader)
        assert (dataset.epoch, dataset.state_dict()["seed"]) == (0, 3)
        for name in ("batch_size", "seed"):
            with pytest.raises(AttributeError, match=f"{name} is fixed when a Loader is made"):
                setattr(dataset, name, 1)
        for name in ("workers", "use_multiprocessing", "max_queue_size"):
            with pytest.raises(AttributeError, match=f"a Loader has its own {name}: .* assign it to .source"):
                setattr(dataset, name, 1)


INLINE, ONE_THREAD = {"workers": 0}, {"workers": 1, "use_multiprocessing": False}


@pytest.mark.parametrize(
    ("options", "set_later"), [(INLINE, False), (ONE_THREAD, False), (ONE_THREAD, True), ({"workers": 1}, False)]
)
def test_options_act_with_every_number_of_workers_and_threads(options, set_later, tmp_path):
    """Keras makes no enqueuer for one thread by itself, and would call the dataset without the options."""
    (tmp_path / "inits").mkdir()
    init = functools.partial(tempfile.mkdtemp, dir=tmp_path / "inits")
    given = {"workers": 2} if set_later else options
    dataset = accelerate(Computed(drawn, 3), **given, worker_init=init, seed=4, trace=tmp_path / "trace")
    if set_later:
        dataset.workers = options["workers"]
        dataset.use_multiprocessing = options.get("use_multiprocessing", True)
    fit(dataset, epochs=2, shuffle=False)
    assert len([*(tmp_path / "inits").iterdir()]) == max(1, options["workers"])
    assert dataset.statistics().batches >= 6
    assert (tmp_path / "trace").stat().st_size


def drawn(index):
    x, y = fit_datasets.Marked(3)[index]
    return x * mpqueue.rng().random(dtype=np.float32), y


def test_options_without_an_effect_are_rejected_when_the_number_of_workers_is_known():
    with pytest.raises(ValueError, match=r"batch_timeout=1 .*: leave it out, or pass workers=1"):
        accelerate(fit_datasets.Marked(), 0, batch_timeout=1)
    dataset = accelerate(fit_datasets.Marked(), 1, batch_timeout=1, max_batch_bytes=10**6)
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        dataset.workers = -1
    dataset.workers = 0
    with pytest.raises(ValueError, match="or pass workers=1"):
        fit(dataset)
    dataset.workers, dataset.use_multiprocessing = 1, False
    with pytest.raises(ValueError, match=r'max_batch_bytes=1000000 .* use backend="process"'):
        enqueuer_for(dataset)


def test_accelerating_an_accelerated_dataset_has_no_effect():
    source = fit_datasets.Marked()
    assert accelerate(accelerate(source, 2), 3).source is source


def test_an_endless_dataset_has_no_length():
    fast = accelerate(fit_datasets.Marked(None), 2)
    assert fast.num_batches is None
    with pytest.raises(TypeError, match="endless"):
        len(fast)


def test_missing_hooks_of_a_source_are_not_called():
    bare = Computed(fit_datasets.Marked().__getitem__, 2)
    assert len(fit(accelerate(bare, 2), epochs=1)[1]["loss"]) == 1


class OldEnqueuer:
    """The enqueuer of Keras 3.5."""

    def __init__(self, py_dataset, use_multiprocessing=False, shuffle=False):
        pass


class OtherAdapter(adapter.PyDatasetAdapter):
    """An adapter that does not make its enqueuer in the constructor."""

    def __init__(self, x, class_weight=None, shuffle=False):
        pass


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"OrderedEnqueuer": OldEnqueuer}, r"OrderedEnqueuer.__init__ takes \(self, py_dataset, use_multiprocessing,"),
        ({"OrderedEnqueuer": None}, "it has no OrderedEnqueuer"),
        ({"PyDatasetAdapter": OtherAdapter}, "does not make an OrderedEnqueuer"),
    ],
    ids=["older", "missing", "other adapter"],
)
@pytest.mark.usefixtures("fresh_replacement")
def test_unsupported_keras_runs_datasets_itself_with_a_warning(monkeypatch, changes, reason):
    for name, value in changes.items():
        monkeypatch.setattr(adapter, name, value)
    replaced = adapter.OrderedEnqueuer
    text = f"does not support Keras {keras.__version__}: .*{reason}.*own workers run the datasets without mpqueue"
    with pytest.warns(UserWarning, match=text) as warned:
        installation = install()
    with pytest.warns(UserWarning, match=text) as others:
        fast = accelerate(fit_datasets.Marked(), 2)
    assert {warning.filename for warning in [*warned, *others]} == {__file__}
    assert adapter.OrderedEnqueuer is replaced
    assert (fast.workers, fast.use_multiprocessing) == (2, False)
    assert targets_of(fast, 5) == targets_of(as_py_dataset(fit_datasets.Marked()), 5)
    with installation:
        assert repr(installation) == "<mpqueue.keras.install(), undone>"
    with (
        mpqueue.Loader(fit_datasets.Marked(), workers=0) as loader,
        pytest.raises(ImportError, match=f"{reason}.*run a Loader"),
    ):
        accelerate(loader)


@pytest.mark.usefixtures("fresh_replacement")
def test_unsupported_keras_trains_with_its_own_enqueuer(monkeypatch):
    class Future(STOCK):
        def start(self, *args, where=None):
            return super().start(*args)

    monkeypatch.setattr(adapter, "OrderedEnqueuer", Future)
    with pytest.warns(UserWarning, match="OrderedEnqueuer.start takes"):
        fast = accelerate(fit_datasets.Marked(), 2)
    assert type(enqueuer_for(fast)) is Future
    assert len(fit(fast)[1]["loss"]) == 3


@pytest.mark.usefixtures("fresh_replacement")
def test_keras_without_the_adapter_module_runs_datasets_itself_with_a_warning(monkeypatch):
    monkeypatch.setattr(keras_frontend, "_ADAPTER", "keras.src.trainers.missing")
    with pytest.warns(UserWarning, match=r"does not support Keras .*it has no module keras\.src\.trainers\.missing"):
        install()
    with pytest.warns(UserWarning, match="missing"):
        assert len(accelerate(fit_datasets.Marked(3), 2)) == 3


def test_missing_backend_is_not_reported_as_missing_keras():
    code = f"import sys; sys.modules[{BACKEND!r}] = None; import mpqueue.keras; mpqueue.keras.install()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert BACKEND in done.stderr.splitlines()[-1]
    assert "mpqueue[keras" not in done.stderr


def test_workers_of_a_dataset_sent_by_value_do_not_import_keras(delivered):
    """Importing Keras and its backend would take seconds in every pool."""

    class ReportingImports(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def on_epoch_end(self):
            super().on_epoch_end()

        def __getitem__(self, index):
            features = np.zeros((2, 4), "float32")
            self.on_epoch_begin()  # hooks of the base class have no effect in a worker, either
            self.on_epoch_end()
            in_trainer = mpqueue.worker_info() is None
            has_keras = "keras" in sys.modules
            features[0] = (in_trainer, has_keras, self.num_batches, self.workers)
            return features, np.zeros((2, 1), "float32")

    with install():
        fit(ReportingImports(workers=2, use_multiprocessing=True), epochs=1)
    assert [batch.tolist() for batch in delivered.batches[-3:]] == [[0, 0, 3, 2]] * 3


ARRAYS = np.zeros((4, 2)), np.zeros(4)
ONE_DATASET = r"accelerate needs one dataset.*got {}.*call fit\(x, y\).*__getitem__"
UNEXPECTED = "unexpected keyword argument '{}': .*{}"


@pytest.mark.parametrize(
    ("dataset", "arguments", "options", "error", "text"),
    [
        (ARRAYS, (), {"workers": "two"}, TypeError, "workers"),
        (ARRAYS, (np.float64(1.5),), {}, TypeError, r"workers must be an integer, got np.float64\(1.5\)"),
        (ARRAYS, (), {"max_queue_size": 0}, ValueError, "max_queue_size"),
        (ARRAYS, (), {"start_method": "teleport"}, ValueError, "start_method"),
        (iter([1, 2]), (), {}, TypeError, "needs __getitem__ and __len__"),
        (ARRAYS[0], (ARRAYS[1],), {}, TypeError, ONE_DATASET.format("ndarray")),
        (ARRAYS, (), {"num_workers": 2}, TypeError, "'num_workers': torch's argument num_workers is called workers"),
        (ARRAYS, (), {"y": 1}, TypeError, UNEXPECTED.format("y", r"call fit\(x, y\)")),
        (ARRAYS, (), {"batch_size": 1}, TypeError, UNEXPECTED.format("batch_size", r"Loader\(samples, batch_size=")),
        (ARRAYS, (), {"shuffle": 1}, TypeError, UNEXPECTED.format("shuffle", r"fit\(\)")),
        (ARRAYS, (), {"nonsense": 2}, TypeError, "unexpected keyword argument 'nonsense'$"),
    ],
)
def test_wrong_arguments_of_accelerate_are_rejected_immediately(dataset, arguments, options, error, text):
    with pytest.raises(error, match=text):
        accelerate(dataset, *arguments, **options)


def test_unbounded_queue_of_processes_is_rejected_when_fit_begins():
    with install(), pytest.raises(ValueError, match="max_queue_size must be at least 1"):
        enqueuer_for(as_py_dataset(fit_datasets.Marked(), 2, True, max_queue_size=0))


def test_number_of_workers_may_be_a_numpy_integer():
    assert accelerate([ARRAYS], np.int64(1)).workers == 1


def test_variable_instead_of_the_number_of_workers_is_rejected():
    with pytest.raises(TypeError, match=ONE_DATASET.format("Variable")):
        accelerate(ARRAYS[0], keras.Variable(ARRAYS[1]))  # not at the import: it starts threads of the backend
