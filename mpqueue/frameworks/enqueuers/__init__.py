"""The enqueuers of Keras 2: an endless stream of batches for a fit loop, computed ahead by workers.

From the ground up::

    forms.py       the signatures of Keras 2 and Keras 3
    iterators.py   the iterator and the queue of an enqueuer
    base.py        start, stop and counters of all enqueuers
    ordered.py     a `Sequence`, epoch after epoch
    generator.py   a generator, once
"""

from mpqueue.frameworks.enqueuers.base import SequenceEnqueuer as SequenceEnqueuer
from mpqueue.frameworks.enqueuers.generator import GeneratorEnqueuer as GeneratorEnqueuer
from mpqueue.frameworks.enqueuers.ordered import OrderedEnqueuer as OrderedEnqueuer
