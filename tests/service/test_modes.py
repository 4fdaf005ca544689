"""The modes of a server: each has one class, and only their module compares their names."""

import ast
from pathlib import Path
from typing import Any, get_args

import pytest
from helpers.service_simulation import Simulation
from hypothesis import given
from hypothesis import strategies as st

import mpqueue
from mpqueue.service import modes
from mpqueue.service.handshake import Hello, ModeName, Resume
from mpqueue.service.modes import MODES, Broadcast, FirstCome, FirstUntaken, Mode, Ranked, SlowestConsumer, mode_of
from mpqueue.service.refusals import Refused
from mpqueue.service.routing import BroadcastRouting, Group, Routing, Seat
from mpqueue.service.rules import check_rules

PACKAGE = Path(mpqueue.__file__).parent
MODULES = sorted(
    {*(PACKAGE / "service").glob("*.py"), *(PACKAGE / "tf1/serving").glob("*.py"), PACKAGE / "commands/serve.py"}
)
CLASSES = {cls.__name__ for row in MODES.values() for cls in row}


def decisions(source: str) -> list[str]:
    """Return the lines of a module that depend on the name or class of a mode."""
    comparisons = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            is_one = any(isinstance(part, ast.Constant) and part.value in MODES for part in ast.walk(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
            is_one = bool(CLASSES & {name.id for name in ast.walk(node) if isinstance(name, ast.Name)})
        else:
            is_one = isinstance(node, ast.Attribute) and node.attr in {"is_ranked", "is_shared", "is_broadcast"}
        if is_one:
            comparisons.append(f"line {getattr(node, 'lineno', '?')}: {ast.unparse(node)}")
    return comparisons


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_module_of_modes_compares_modes(path: Path):
    assert path.name == "modes.py" or decisions(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "if rules.mode == 'split': pass",
        "is_broadcast = 'broadcast' != mode",
        "comparisons = mode in {'broadcast', 'other'}",
        "match mode:\n    case 'split': pass",
        "if isinstance(mode, modes.Other | Ranked): pass",
        "if rules.is_ranked: pass",
    ],
)
def test_check_finds_each_kind_of_comparison(source: str):
    assert len(decisions(source)) == 1


def test_table_and_handshake_have_same_names():
    assert tuple(MODES) == get_args(ModeName)


@pytest.mark.parametrize(
    ("name", "world", "expected"),
    [("split", 2, Ranked), ("split", None, FirstCome), ("broadcast", 2, Broadcast), ("broadcast", None, Broadcast)],
)
def test_options_mode_and_world_choose_class(name: Any, world: int | None, expected: type[Mode]):
    rules = check_rules(mode=name, world=world, slow="wait", grace_s=1, lease_timeout=None, window=3)
    assert type(rules.mode) is expected
    assert rules.mode == mode_of(name, world)


class Solo(Mode):
    """All batches go to one consumer, and a second consumer is rejected."""

    def length(self, total: int) -> int:
        return total

    def make_routing(self, group: Group, terms: modes.RoutingTerms) -> Routing:
        return BroadcastRouting(group.seats, group.window, terms.hold, terms.let_go, skips=False, epoch=terms.epoch)

    def seat_for(self, arrival: modes.Arrival, group: Group) -> Seat:
        if group.seats:
            raise Refused("it serves one consumer")
        return group.add(arrival.epoch)

    def count_at(self, position: int) -> int:
        return position + 1

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Any) -> tuple[int, ...]:
        seat.resume_at(resume.count)
        return ()

    def awaits_survivors(self, *, is_stream: bool, can_replay: bool) -> bool:
        return True


def test_new_mode_needs_only_a_class_and_a_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MODES, "solo", (Solo, Solo))
    rules = check_rules(mode="solo", world=None, slow="wait", grace_s=1, lease_timeout=None, window=2)
    simulation = Simulation(rules, [3])
    assert simulation.attach(1)
    with pytest.raises(Refused, match="serves one consumer"):
        simulation.core.attach(2, Hello(), now=0.0)
    for _ in range(2):
        simulation.next(1)
        simulation.settle(1)
    assert simulation.consumers[1].taken == [(epoch, position) for epoch in range(2) for position in range(3)]
    assert simulation.finished == [0, 1]
    assert mpqueue.Server("one", [1, 2, 3], mode="solo").report()["mode"] == "solo"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'must be "split" or "broadcast" or "solo"'):
        check_rules(mode="duet", world=None, slow="wait", grace_s=1, lease_timeout=None, window=2)


@given(start=st.integers(0, 5), taken=st.lists(st.integers(0, 12)))
def test_frontier_is_first_untaken_position_if_one_consumer_takes_each_batch(start: int, taken: list[int]):
    frontier = FirstUntaken(start)
    for position in taken:
        frontier.add(position, 1)
    first = next(position for position in range(start, 20) if position not in taken)
    assert frontier.position(()) == first
    assert frontier.ahead() == tuple(sorted({position for position in taken if position > first}))


def test_frontier_is_slowest_present_consumer_if_all_take_each_batch():
    frontier = SlowestConsumer(2)
    for position, who in ((0, 1), (5, 1), (3, 2), (9, 3)):
        frontier.add(position, who)
    assert frontier.position([1, 2]) == 4
    assert frontier.position([1, 3]) == 6
    assert frontier.position([1, 4]) == 2, "a consumer without taken batches counts from the start"
    assert frontier.position([]) == 2
    assert frontier.ahead() == ()
