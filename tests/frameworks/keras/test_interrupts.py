"""Signals at random moments of Keras's calls to an enqueuer: a signal ends the fit, and the next fit is complete."""

import contextlib
import time

import pytest
from helpers.faults import Numbers
from helpers.injected_exceptions import Alarms, Struck, each_strike

import mpqueue
from mpqueue import Loader
from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.loader_passes import LoaderEnqueuer, LoaderEpochs
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.loader.run import Run

RANDOM_S = 0.4  # for each case


def one_epoch(enqueuer, alarms):
    """Return the batches of an epoch of three, up to the interrupt."""
    enqueuer.start()
    batches, found = enqueuer.get(), []
    while len(found) < 3:
        got = alarms.call(next, batches)
        if not got:
            return found
        found.append(int(got[0][0]))
    while not alarms.call(enqueuer.stop):
        pass
    return found


@pytest.mark.parametrize(("processes", "error"), [(True, Struck), (False, TimeoutError)])
def test_fit_after_an_interrupted_one_is_complete(processes, error):
    end = time.monotonic() + RANDOM_S
    with Alarms(4, error) as alarms:
        while alarms.count < 10 or time.monotonic() < end:
            enqueuer, found = PassEnqueuer(Numbers(3), 2, use_multiprocessing=processes), [0, 1, 2]
            for _ in range(3):
                if found == [0, 1, 2]:
                    found = one_epoch(enqueuer, alarms)
                    assert found == [0, 1, 2][: len(found)]
            enqueuer.park()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"workers": 2}, Struck), ({"workers": 1, "backend": "thread"}, TimeoutError), ({"workers": 0}, TimeoutError)],
    ids=str,
)
def test_epochs_and_states_of_a_loader_count_returned_batches(options, error):
    end, epoch, left = time.monotonic() + RANDOM_S, 0, (0, 0)
    with Loader(Numbers(3), **options) as loader, Alarms(4, error) as alarms:
        epochs = LoaderEpochs(loader)
        while alarms.count < 10 or time.monotonic() < end:
            enqueuer = LoaderEnqueuer(epochs)
            alarms.call(epochs.peek, 0)
            found = one_epoch(enqueuer, alarms)
            state = loader.state_dict()
            position = state["epoch"], state["position"]
            assert found == [0, 1, 2][: len(found)]
            right = {(epoch, len(found)), (epoch + len(found) // 3, 0)}
            # Without any batch, the loader may still be where the previous epoch was left.
            assert position in right or (not found and position == left)
            epoch, left = epoch + bool(found), position if found else left


@pytest.mark.parametrize("workers", [0, 1])
def test_state_counts_no_lost_batch_if_the_next_epoch_is_interrupted(workers, monkeypatch):
    def strike(*_):
        raise Struck

    with Loader(Numbers(3), workers=workers, backend="thread") as loader:
        epochs = LoaderEpochs(loader)
        epoch = epochs.begin(on_trial=True)
        assert int(next(epoch)[0]) == 0
        epoch.held.take()  # the state after an interrupt, before the batch is returned
        assert loader.state_dict()["position"] == 1
        with monkeypatch.context() as patched, pytest.raises(Struck):
            patched.setattr(Run, "_next_start", strike)  # signal handlers run at the beginning of a function
            epochs.peek(0)
        assert loader.state_dict()["position"] == 1
        assert [int(batch[0]) for batch in epochs.begin()] == [0, 1, 2]


def test_pool_can_be_parked_after_a_signal_at_any_moment():
    for after, strike in each_strike(least=10):
        enqueuer = PassEnqueuer(Numbers(3), 1)
        with contextlib.suppress(Struck), strike:
            idle.watch(enqueuer)
            assert enqueuer.park()
            idle.make_room(enqueuer.source)
        assert enqueuer.park(), after
        mpqueue.shutdown()  # parks all pools, and cancels the timer
