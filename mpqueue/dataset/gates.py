"""The samples that are excluded in the middle of an epoch of a lane.

Excluded samples take their way through the stages as before. They are left out where elements are merged, and at the
end of the lane:

- `batch`, `bucket` and `pack` take no element that has an excluded sample, and leave out those that they hold.
- The lane returns no element that has one.

So the order of all other elements is the one without the exclusion, whatever the stages have read before. An element
that was merged before the exclusion, and waits in a later buffer, is left out as a whole. So is a tuple of `zip`, and
an element of a `cache`: their inputs have closed gates.

When the lane begins its next epoch, its roots do not read the samples.
"""

from collections.abc import Sequence
from itertools import compress
from typing import Any

from mpqueue.dataset.ids import Keep, within


class Gate:
    """The samples that elements must not have from now on.

    Attributes:
        keep: Returns for each element, by the ids of its samples, whether it has none of them; None: there are none.
    """

    keep: Keep | None = None

    def inner(self, part: int | str) -> "Gate":
        """Return the gate of an input, whose samples have ids without the name of the part."""
        return _PartGate(self, part)


class _PartGate(Gate):
    def __init__(self, outer: Gate, part: int | str) -> None:
        self._outer, self._part = outer, part

    @property
    def keep(self) -> Keep | None:  # type: ignore[override]  # a property
        return within(self._part, self._outer.keep)


CLOSED = Gate()  # before a `zip` or a `cache`; `keep` stays None


def admitted(stage: Any, values: list[Any], tokens: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
    """Return the elements without excluded samples, of those that a stage takes from its input."""
    keep = stage.run.gate.keep
    if keep is None or not tokens:
        return values, tokens
    keeps = keep(stage.inputs[0].sample_ids(tokens))
    if all(keeps):
        return values, tokens
    if not any(keeps):
        stage.search.note(stage, len(keeps))
    return list(compress(values, keeps)), list(compress(tokens, keeps))
