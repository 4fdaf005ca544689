"""Keras 3's own enqueuer, on mpqueue's classes: a case holds as far as the contract of the old classes leaves it.

The constructor's ``workers`` and ``max_queue_size`` go to `start`, where the old classes take them.

Follows: ``keras.utils.PyDataset`` and the private ``OrderedEnqueuer`` of ``py_dataset_adapter``.
"""

import mpqueue
from golden import enqueuer_play, enqueuer_sources
from golden.enqueuer_play import Instead

DIFFERENCES = enqueuer_play.DIFFERENCES | {
    "endless run": "one run goes through all epochs and calls on_epoch_end after each; Keras 3 waits for a stop",
    "next after stop": "StopIteration: a stream that was stopped has ended, which Keras 3 calls a ValueError",
    "unread batches": "stop drops them, an exception among them too; Keras 3 gives them to the next run",
}


class Keras3Play(enqueuer_play.Play):
    """A case of Keras 3."""

    source_class = enqueuer_sources.Dataset
    start_arguments = ("workers", "max_queue_size")

    def __init__(self, case, classes):
        super().__init__(case, classes)
        self._left_unread = False  # by an earlier run

    def contradiction(self, step, predicted):
        return super().contradiction(step, predicted) or self._after_stop(step) or self._in_stream(step, predicted)

    def _after_stop(self, step):
        """What Keras 3 does at a stop, and says after it."""
        do, expect = step["do"], step.get("expect")
        if do == "stop" and expect != "ok":
            return Instead("unread batches", "ok")
        if do == "finish" and self._reads[step["id"]].is_over:
            return Instead("endless run", self._reads[step["id"]].outcome(0))  # judged when it was read
        if do in {"next", "finish"} and self.phase == "stopped" and expect.get("error") == "ValueError":
            return Instead("next after stop", {"values": expect["values"], "end": "StopIteration"})
        return None

    def _in_stream(self, step, predicted):
        """What a run shows that goes on where one of Keras 3 is over, or begins anew where Keras 3 has batches left."""
        expect = step.get("expect")
        open_order = self.is_random and step["do"] == "next"  # only how many come is told beforehand
        if predicted is None or (predicted == expect if not open_order else "values" in expect):
            return None
        if self.model.epochs_taken or self._first_epoch or self.epochs_at_stop:
            return Instead("endless run", predicted)
        return Instead("unread batches", predicted) if self._left_unread else None

    def _run_ended(self):
        self._left_unread |= self.model.length is not None and not self.model.is_at_epoch_end
        super()._run_ended()


def run(case, folder, classes=mpqueue):
    """Play the case, on the enqueuers of `classes`."""
    Keras3Play(case, classes).run()
