"""Signals at random moments of tf.data's calls to a loader: each batch is returned once, and states count them.

tf.data calls from its own thread, where no signal handler runs. These tests make its calls in the main thread.
"""

import itertools
import time

import pytest
from helpers.faults import Numbers
from helpers.injected_exceptions import Alarms, Struck

from mpqueue import Loader
from mpqueue.frameworks.keras.loader_passes import LoaderEpochs
from mpqueue.frameworks.tf import _Feed

pytestmark = pytest.mark.slow

RANDOM_S = 0.4  # each
NUM_BATCHES = 3


def position_of(loader):
    state = loader.state_dict()
    return state["epoch"], state["position"]


def check_epoch(loader, feed, epoch, call, *, is_counted):
    """Take one epoch, and begin or request again as often as a call is interrupted."""
    begun = []
    while not begun:
        begun = call(feed.begin)
    found = []
    while len(found) < NUM_BATCHES or not is_counted:
        try:
            got = call(next, begun[0])
        except StopIteration:
            break
        found += [int(batch[0]) for batch in got]
        number = epoch * NUM_BATCHES + len(found)
        whole = (epoch + 1, 0)  # known when the end was requested, or with the last batch
        assert position_of(loader) in {divmod(number, NUM_BATCHES), (epoch, len(found))}
        assert found == list(range(len(found)))
    assert found == list(range(NUM_BATCHES))
    assert is_counted or position_of(loader) == whole


@pytest.mark.parametrize("is_counted", [False, True])
@pytest.mark.parametrize(
    ("options", "error"),
    [({"workers": 2}, Struck), ({"workers": 1, "backend": "thread"}, TimeoutError), ({"workers": 0}, TimeoutError)],
    ids=str,
)
def test_states_and_batches_agree_after_signals_at_any_moment(options, is_counted, error):
    end = time.monotonic() + RANDOM_S
    with Loader(Numbers(NUM_BATCHES), **options) as loader, Alarms(4, error) as alarms:
        feed = _Feed(LoaderEpochs(loader))
        if is_counted:
            feed.count(NUM_BATCHES)
        for epoch in itertools.count():
            if alarms.count >= 10 and time.monotonic() > end:
                break
            check_epoch(loader, feed, epoch, alarms.call, is_counted=is_counted)
