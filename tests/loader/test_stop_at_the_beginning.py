"""`stop()` from another thread while a loop over a loader starts."""

import numpy as np
import pytest
from helpers.faults import Numbers

import mpqueue
from mpqueue.engine.epochs import Epochs


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 1, "backend": "thread"}, {"workers": 0}])
@pytest.mark.parametrize("place", ["restart_at", "hand_out"])
def test_stop_during_start_of_loop_ends_loop_only(options, place, monkeypatch):
    """The stop follows the test whether the workers run."""
    with mpqueue.Loader(Numbers(3), **options) as loader:
        batches = iter(loader)
        assert next(batches)[0] == 0
        method = getattr(Epochs, place)

        def stopped_before(epochs, *args, **keywords):
            monkeypatch.setattr(Epochs, place, method)
            epochs.guard.stop()
            return method(epochs, *args, **keywords)

        monkeypatch.setattr(Epochs, place, stopped_before)
        assert [int(batch[0]) for batch in loader] == []
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 1, "backend": "thread"}, {"workers": 0}])
def test_unread_loop_over_generator_is_restarted(options):
    def numbers():
        yield from (np.full(2, number) for number in range(3))

    with mpqueue.Loader(numbers, **options) as loader:
        iter(loader)
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
