# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue import GeneratorEnqueuer as GeneratorEnqueuer
from mpqueue import OrderedEnqueuer as OrderedEnqueuer
from mpqueue import Sequence as Sequence
from mpqueue import SequenceEnqueuer as SequenceEnqueuer

__all__ = [
    "GeneratorEnqueuer", "OrderedEnqueuer", "Sequence", "SequenceEnqueuer",
]  # fmt: skip
