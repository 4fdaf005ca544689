"""A PyDataset with coroutines."""

import numpy as np
import pytest
from helpers.coroutines import end_out_of_order

keras = pytest.importorskip("keras")

import mpqueue.keras  # noqa: E402 - after the check


class Lines(keras.utils.PyDataset):
    def __len__(self):
        return 5

    async def __getitem__(self, index):
        await end_out_of_order(index)
        x = np.full((4, 1), index, np.float32)
        return x, 2 * x


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 2, "use_multiprocessing": False}, {"workers": 0}])
def test_fit_awaits_the_batches(options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    lines = mpqueue.keras.accelerate(Lines(), **options)
    assert lines[3][1].tolist() == [[6.0]] * 4
    assert len(model.fit(lines, epochs=2, verbose=0).history["loss"]) == 2
