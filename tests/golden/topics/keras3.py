"""Keras 3's own enqueuer, on mpqueue's classes: a case holds as far as the contract of the old classes leaves it.

The constructor's ``workers`` and ``max_queue_size`` go to `start`, where the old classes take them.

Follows: ``keras.utils.PyDataset`` and the private ``OrderedEnqueuer`` of ``py_dataset_adapter``.
"""

from golden.enqueuer_play import Play
from golden.enqueuer_sources import Dataset
from golden.topics.keras_old import BEFORE_START

ENDLESS = "one run goes through all epochs and calls on_epoch_end after each; Keras 3 waits for a stop"
_NEXT_EPOCH = {5: [{"values": [100]}], 7: [{"values": [100]}]}
# Whether on_epoch_end was called depends on how soon the stop comes after the last batch of the epoch.
_AFTER_AN_EPOCH = {6: [{"values": [0, 1, 2]}, {"values": [100, 101, 102]}], 8: [0, 1, 2]}
DIFFERENCES = {  # the reason, and the outcomes of steps
    "s001": (ENDLESS, _NEXT_EPOCH),
    "s002": (ENDLESS, _AFTER_AN_EPOCH),
    "s004": (ENDLESS, _NEXT_EPOCH),
    "s005": (ENDLESS, _AFTER_AN_EPOCH),
    "s007": (
        "RuntimeError, and the run goes on unharmed: a second run would share the first one's workers",
        {1: [{"error": "RuntimeError"}]},
    ),
    "s009": (BEFORE_START, {1: [{"values": [], "error": "RuntimeError"}]}),
    "s010": (
        "StopIteration: a stream that was stopped has ended, which Keras 3 calls a ValueError",
        {4: [{"values": [], "end": "StopIteration"}]},
    ),
    "s011": (
        "stop drops unread batches, an exception among them too; Keras 3 gives them to the next run",
        {7: [{"values": [0, 1, 2, 100, 101]}]},
    ),
}


def run(case, folder):
    _, differences = DIFFERENCES.get(case["id"].partition("/")[2], ("", {}))
    Play(case, Dataset, differences).run()
