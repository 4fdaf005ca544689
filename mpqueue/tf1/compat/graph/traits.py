"""The facts about an operation that need not be said of each."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np

from mpqueue.tf1.runs.rules import Rule

Kernel: TypeAlias = Callable[..., Sequence[np.ndarray]]
"""What an operation does: takes a `Running`, a list of arrays, and by keyword other settings than the operation's."""
Entries: TypeAlias = Callable[[int], np.ndarray | None]


class Traits(TypedDict, total=False):
    """The facts by their names."""

    entries: Entries  # what is known of an output's value before a run, by the number of the output
    blocking: bool  # the kernel may wait for others
    bound: bool  # what it does depends on state of the session, other than queues and readers
    attributes: dict[str, Any]  # what `Operation.get_attr` tells
    rule: Rule | None  # how it is computed for many records at once; only of functions of the inputs
