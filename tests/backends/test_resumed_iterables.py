"""An iterable that counts its epochs in ``__iter__``, and so begins another epoch after a load, is resumed exactly."""

import pickle
import random

import pytest

import mpqueue

pytestmark = pytest.mark.sample(1)

LENGTH = 300


class Shuffled:
    def __init__(self):
        self.epoch, self.at = 0, 0

    def __iter__(self):
        self.epoch += 1
        order = random.Random(self.epoch).sample(range(LENGTH), LENGTH)
        info = mpqueue.worker_info()
        order = order if info is None else order[info.shard_id :: info.num_shards]
        while self.at < len(order):
            self.at += 1
            yield order[self.at - 1]
        self.at = 0

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at = state["epoch"], state["at"]


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [lambda: Shuffled().__iter__, lambda: Shuffled, lambda: mpqueue.Dataset(Shuffled())],
    ids=["method", "function", "dataset"],
)
def test_resumed_epoch_has_the_rest_of_its_order(make, workers):
    options = {"workers": workers, "seed": 1, "lanes": 2, "start_method": "fork"}
    with mpqueue.Loader(make(), **options) as loader:
        batches = iter(loader)
        before = [next(batches) for _ in range(LENGTH // 2)]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        rest = list(batches)
    assert sorted(before + rest) == list(range(LENGTH))
    with mpqueue.Loader(make(), **options) as loader:
        loader.load_state_dict(state)
        assert list(loader) == rest
