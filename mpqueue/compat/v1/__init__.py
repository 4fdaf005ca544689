"""TensorFlow 1's names: ``import mpqueue.compat.v1 as tf`` in a script of its input toolbox.

The table of the names is `mpqueue.tf1.compat.surface`, from which this module, and those inside it (``tf.train``,
``tf.image``, ...), are made; there are no files of theirs but the stubs, which tell type checkers and editors the
signatures. Nothing is trained here.
"""

from mpqueue.tf1.compat.functions import operators, sparse
from mpqueue.tf1.compat.names import Namespaces
from mpqueue.tf1.compat.surface import NOTES, SURFACE

_INSTALLED = (operators, sparse)  # what operators do with nodes

Namespaces(__name__, SURFACE, NOTES).open()
