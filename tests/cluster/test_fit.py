"""`model.fit` of Keras, fed by the nodes of a cluster, has exactly the results of a fit without workers."""

import importlib.util
import os

import pytest
from helpers.marked import Marked
from helpers.on_cluster import agents, on, until

from mpqueue import Loader

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras and its backends use deprecated functions
BACKENDS = [
    name for name in ("torch", "jax", "tensorflow") if importlib.util.find_spec(name)
]  # the fastest to import first


@pytest.fixture(scope="module")
def fitting():
    """Fits of a small model, with Keras on one backend."""
    if not BACKENDS or importlib.util.find_spec("keras") is None:
        pytest.skip("there is no Keras with a backend")
    os.environ.setdefault("KERAS_BACKEND", BACKENDS[0])
    from helpers import fitting

    return fitting


@pytest.fixture(scope="module")
def expected(fitting):
    return fitting.fit(fitting.as_py_dataset(Marked()))


@pytest.fixture
def other(cluster):
    return {"backend": "ray", "ray_options": on(cluster.others[0].node_id)}


def test_dataset_on_nodes_yields_weights_and_history_of_fit_without_workers(fitting, expected, other):
    from mpqueue.keras import accelerate

    dataset = accelerate(Marked(), 2, **other)
    fitting.assert_same(fitting.fit(dataset), expected)
    (node,) = dataset.statistics().nodes
    assert node.batches >= 15
    del dataset
    until(lambda: not agents(), "the end of the agents with the fit")


def test_loader_on_nodes_yields_same_weights(fitting, other):
    from mpqueue.keras import accelerate

    with Loader(Marked(), workers=0) as loader:
        expected = fitting.fit(accelerate(loader))
    with Loader(Marked(), workers=2, **other) as loader:
        fitting.assert_same(fitting.fit(accelerate(loader)), expected)
        assert [node.workers for node in loader.statistics().nodes] == [2]
