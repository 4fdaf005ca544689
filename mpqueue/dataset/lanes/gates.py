"""The samples that are excluded in the middle of an epoch of a lane.

They are excluded at three positions:

- where elements enter the first stage that holds, counts or merges elements (`mpqueue.dataset.lanes.ahead`), or a
  `concatenate` with another input that has such a stage: no result before it depends on how many elements were read,
  so the roots stop computing these samples, too;
- where elements are merged: `batch`, `bucket`, `pack` and `window` take no element that has an excluded sample, and
  exclude held elements that have one;
- at the end of the lane, which returns no element that has one.

Between these positions, an excluded sample that was read before passes through buffers as if it were not excluded.
So the order of all other elements does not depend on times. An element that was merged before the exclusion, and waits
in a later buffer, is excluded as a whole. So is a tuple of `zip`, and an element of a `cache`: their inputs have closed
gates.

When the lane begins its next epoch, its roots do not read the samples.
"""

from collections.abc import Sequence
from itertools import compress
from typing import Any, cast

from mpqueue.dataset.description.ids import Keep, within


class Gate:
    """The samples that later elements must not have.

    Attributes:
        keep: Returns for each element, by the ids of its samples, whether all are included; None: all elements are.
    """

    keep: Keep | None = None

    def inner(self, part: int | str) -> "Gate":
        """Return the gate of an input; the ids of its samples lack the name of the part."""
        return self if self is CLOSED else _PartGate(self, part)


class _PartGate(Gate):
    def __init__(self, outer: Gate, part: int | str) -> None:
        self._outer, self._part = outer, part
        self._lane: Gate = outer._lane if isinstance(outer, _PartGate) else outer
        self._known: Keep | None = None  # of the lane, when `_keep` was made
        self._keep: Keep | None = None

    @property
    def keep(self) -> Keep | None:  # type: ignore[override]  # a property
        known = self._lane.keep
        if known is not self._known:
            # A loop: parts may be nested thousands of levels deep.
            parts, gate, keep = [], cast(Gate, self), known
            while isinstance(gate, _PartGate):
                parts.append(gate._part)
                gate = gate._outer
            for part in reversed(parts):
                keep = within(part, keep)
            self._known, self._keep = known, keep
        return self._keep


CLOSED = Gate()  # before a `zip` or a `cache`; `keep` remains None


def is_excluded(gate: Gate, stage: Any, token: Any) -> bool:
    """Return whether an element of a stage that has raised has an excluded sample: its error is not raised."""
    keep = gate.keep
    return keep is not None and not keep(stage.sample_ids([token]))[0]


def admitted(stage: Any, values: list[Any], tokens: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
    """Return the elements without excluded samples among the elements that a stage takes from its input."""
    keep = stage.run.gate.keep
    if keep is None or not tokens:
        return values, tokens
    keeps = keep(stage.inputs[0].sample_ids(tokens))
    if all(keeps):
        return values, tokens
    if not any(keeps):
        stage.search.note(stage, len(keeps))
    return list(compress(values, keeps)), list(compress(tokens, keeps))
