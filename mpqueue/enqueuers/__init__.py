"""The enqueuers of Keras 2: an endless stream of batches for a fit loop, computed ahead by workers.

From the ground up::

    base.py                     start, stop and counters of all enqueuers
    ordered.py generator.py     a `Sequence`, epoch after epoch; a generator, once
"""

from mpqueue.enqueuers.base import SequenceEnqueuer as SequenceEnqueuer
from mpqueue.enqueuers.generator import GeneratorEnqueuer as GeneratorEnqueuer
from mpqueue.enqueuers.ordered import OrderedEnqueuer as OrderedEnqueuer
