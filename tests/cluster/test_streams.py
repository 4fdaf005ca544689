"""A stream of an `mpqueue.Dataset` on the nodes of a cluster: unchanged after the loss of a node, and resumable."""

import numpy as np
from helpers.on_cluster import on

import mpqueue

EXTRA = {"resources": {"extra": 1}, "num_cpus": 0}


def stream(wait=lambda x: x):
    numbers = mpqueue.Dataset.range(400).shuffle().map(wait).filter(lambda x: x % 4 != 0).shuffle(buffer=6)
    return numbers.map(lambda x: np.array([x, mpqueue.rng().integers(1000)])).batch(3)


def plain(batches):
    return [batch.tolist() for batch in batches]


def test_state_resumes_locally_and_on_a_node(cluster):
    whole = plain(stream())
    options = {"backend": "ray", "ray_options": on(cluster.others[0].node_id)}
    taken, state = [], None
    for each in ({"workers": 2, **options}, {"workers": 1}, {"workers": 1, **options}):
        with mpqueue.Loader(stream(), seed=0, **each) as loader:
            if state is not None:
                loader.load_state_dict(state)
            batches = iter(loader)
            taken += plain(next(batches) for _ in range(25))
            state = loader.state_dict()
            rest = plain(batches)
    assert taken + rest == whole
