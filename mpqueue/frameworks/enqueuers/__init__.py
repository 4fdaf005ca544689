"""The enqueuers of Keras 2: an endless stream of batches for a fit loop, computed ahead by workers.

From the ground up::

    forms.py       the forms in which an enqueuer is constructed
    iterators.py   the iterator and the queue that enqueuers give
    base.py        start, stop and counters of all enqueuers
    ordered.py     a `Sequence`, epoch after epoch
    generator.py   a generator, once
"""

from mpqueue.frameworks.enqueuers.base import SequenceEnqueuer as SequenceEnqueuer
from mpqueue.frameworks.enqueuers.generator import GeneratorEnqueuer as GeneratorEnqueuer
from mpqueue.frameworks.enqueuers.ordered import OrderedEnqueuer as OrderedEnqueuer
