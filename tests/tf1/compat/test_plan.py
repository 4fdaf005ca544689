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


def test_operation_with_one_fed_output_runs_for_the_other_output():
    a = FakeOperation("a", num_outputs=2)
    b = FakeOperation("b", a.outputs)
    made = Plan([b], [a.outputs[0]])
    assert names(made) == ["a", "b"]
    assert made.steps[0].outputs == (None, made.slot_of[a.outputs[1]])


def test_control_inputs_precede_unless_all_their_outputs_are_fed():
    a, b, c = FakeOperation("a"), FakeOperation("b", num_outputs=0), FakeOperation("c", num_outputs=2)
    d = FakeOperation("d", control=[a, b, c])
    assert names(Plan([d], [])) == ["a", "b", "c", "d"]
    assert names(Plan([d], [a.outputs[0], c.outputs[0]])) == ["b", "c", "d"]
    assert names(Plan([d], [a.outputs[0], *c.outputs])) == ["b", "d"]


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
