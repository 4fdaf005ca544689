"""Plans: the order of operations, and the places of their results, worked out once per set of fetches and feeds.

A plan gives every tensor that is needed a place in one list, the *slots* of a run, and lists the operations so that
each comes after all that it needs. What is fed needs nothing: the operations behind it are left out, unless something
else needs them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mpqueue.tf1.compat.graph.nodes import Operation, Tensor


class Step(NamedTuple):
    """One operation of a plan."""

    op: Operation
    inputs: tuple[int, ...]  # the slots of its inputs
    outputs: tuple[int | None, ...]  # the slots of its outputs, None for one that is fed
    needs: frozenset[int]  # the steps that must come before
    after: tuple[int, ...]  # the steps that wait for this one


class Plan:
    """The operations to run for some targets.

    Args:
        targets: Tensors whose values are wanted, and operations that are to run.
        fed: Tensors whose values are given.
    """

    def __init__(self, targets: Sequence[Tensor | Operation], fed: Iterable[Tensor]) -> None:
        self.slot_of: dict[Tensor, int] = {}
        self.fed = tuple(dict.fromkeys(fed))
        self._given = frozenset(self.fed)
        # What is fed has a slot although no step may take it: a run fills in all its feeds before the first step.
        for tensor in self.fed:
            self._slot(tensor)
        order = self._ordered(targets)
        self.steps = self._steps(order)
        self.is_blocking = any(op.blocking for op in order)
        self.is_bound = any(op.bound for op in order)
        self.waits_apart = _waits_apart(self.steps)

    def _slot(self, tensor: Tensor) -> int:
        return self.slot_of.setdefault(tensor, len(self.slot_of))

    def _needed_by(self, op: Operation) -> list[Operation]:
        given = self._given
        # With all its outputs fed it is not run, as little as an input; with none it cannot be fed, and runs.
        before = [each for each in op.control_inputs if not (each.outputs and given.issuperset(each.outputs))]
        return [each.op for each in op.inputs if each not in given] + before

    def _ordered(self, targets: Sequence[Tensor | Operation]) -> list[Operation]:
        """Depth first, with a stack of our own: pipelines may be longer than Python's."""
        done: dict[Operation, bool] = {}
        order: list[Operation] = []
        # Reversed, here and below: what is asked for first lies on top, and so is carried out first.
        stack = [
            each.op if isinstance(each, Tensor) else each
            for each in reversed(targets)
            if not (isinstance(each, Tensor) and each in self._given)
        ]
        while stack:
            op = stack[-1]
            if op in done:
                stack.pop()
                # Met again behind all that it needs: its turn, unless it lay on the stack twice.
                if not done[op]:
                    done[op] = True
                    order.append(op)
            else:
                done[op] = False
                # None of those left out is still open: that would be a circle, and nodes take older nodes only.
                stack += [each for each in reversed(self._needed_by(op)) if each not in done]
        return order

    def _steps(self, order: list[Operation]) -> list[Step]:
        place = {op: number for number, op in enumerate(order)}
        needs = [frozenset(place[each] for each in self._needed_by(op)) for op in order]
        after: list[list[int]] = [[] for _ in order]
        for number, before in enumerate(needs):
            for each in before:
                after[each].append(number)
        return [
            Step(
                op,
                tuple(self._slot(each) for each in op.inputs),
                tuple(None if each in self._given else self._slot(each) for each in op.outputs),
                needs[number],
                tuple(after[number]),
            )
            for number, op in enumerate(order)
        ]


def _waits_apart(steps: Sequence[Step]) -> bool:
    """Tell if two blocking operations do not need one another, so that both may wait at once."""
    needed: list[int] = []  # per step, how many blocking steps it needs: as long as none waits apart, the first so many
    count = 0
    for step in steps:
        needed.append(max((needed[each] for each in step.needs), default=0))
        if step.op.blocking:
            # Some blocking step before this one is not among those that it needs: the two do not wait for one another.
            if needed[-1] < count:
                return True
            count += 1
            needed[-1] = count
    return False
