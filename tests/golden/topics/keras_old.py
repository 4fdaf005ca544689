"""The old Keras enqueuers: the contract, but for what calls of a program in error do.

Follows: ``tf.keras.utils.Sequence``, ``SequenceEnqueuer``, ``OrderedEnqueuer``, ``GeneratorEnqueuer``.
"""

import mpqueue
from golden import enqueuer_play

DIFFERENCES = enqueuer_play.DIFFERENCES | {
    "stop before start": "does nothing: clean-up code calls it whether or not the start was reached",
}


class OldPlay(enqueuer_play.Play):
    """A case of the old classes."""

    def contradiction(self, step, predicted):
        if step["do"] == "stop" and self.phase == "new":
            return enqueuer_play.Instead("stop before start", "ok")
        return super().contradiction(step, predicted)


def run(case, folder, classes=mpqueue):
    """Play the case, on the enqueuers of `classes`."""
    OldPlay(case, classes).run()
