"""The old Keras enqueuers: the contract, but for what calls of a program in error do.

Follows: ``tf.keras.utils.Sequence``, ``SequenceEnqueuer``, ``OrderedEnqueuer``, ``GeneratorEnqueuer``.
"""

from golden.enqueuer_play import Play
from golden.enqueuer_sources import Items

BEFORE_START = "RuntimeError: it is a mistake of the program, and the end of the stream would hide it"
DIFFERENCES = {  # the reason, and the outcomes of steps
    "s014": (BEFORE_START, {1: [{"values": [], "error": "RuntimeError"}]}),
    "s017": ("does nothing: clean-up code calls `stop` whether or not the start was reached", {0: ["ok"]}),
}


def run(case, folder):
    _, differences = DIFFERENCES.get(case["id"].partition("/")[2], ("", {}))
    Play(case, Items, differences).run()
