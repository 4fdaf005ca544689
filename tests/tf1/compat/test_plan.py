"""Plans of operations without effect: required operations run once, after their dependencies, and no others run."""

import random

import pytest

from mpqueue.tf1.compat.graph import plan
from mpqueue.tf1.compat.graph.plan import Plan


class FakeTensor:
    def __init__(self, op):
        self.op = op


class FakeOperation:
    """Create an operation with the given inputs and number of outputs."""

    def __init__(self, name, inputs=(), num_outputs=1, control=(), blocking=False, bound=False):
        self.name, self.inputs, self.control_inputs = name, list(inputs), list(control)
        self.outputs = [FakeTensor(self) for _ in range(num_outputs)]
        self.blocking, self.bound = blocking, bound

    def __repr__(self):
        return self.name


@pytest.fixture(autouse=True)
def _fake_tensors(monkeypatch):
    monkeypatch.setattr(plan, "Tensor", FakeTensor)


def names(made):
    return [step.op.name for step in made.steps]


def test_a_long_pipeline_is_planned_without_recursion():
    op = FakeOperation("0")
    for number in range(1, 5000):
        op = FakeOperation(str(number), op.outputs)
    assert names(Plan([op], [])) == list(map(str, range(5000)))


def needs_all(op, other):
    """Return whether an operation depends on another, directly or indirectly."""
    return op is other or any(needs_all(tensor.op, other) for tensor in op.inputs)


def test_independent_blocking_operations_are_found_in_random_graphs():
    results = set()
    for seed in range(400):
        chance = random.Random(seed)
        ops = []
        for number in range(chance.randrange(1, 7)):
            inputs = [op.outputs[0] for op in ops if chance.random() < 0.5]
            ops.append(FakeOperation(str(number), inputs, blocking=chance.random() < 0.5))
        made = Plan(ops, [])
        place = {step.op: number for number, step in enumerate(made.steps)}
        assert all(place[tensor.op] < place[op] for op in ops for tensor in op.inputs)
        waiting = [op for op in ops if op.blocking]
        apart = any(
            not needs_all(one, other) and not needs_all(other, one)
            for one in waiting
            for other in waiting
            if one is not other
        )
        assert made.blocks_concurrently == apart, seed
        results.add(apart)
    assert results == {False, True}
