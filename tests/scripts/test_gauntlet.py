"""``scripts/gauntlet``: resumes are exact, the page shows the recorded results, and options reach the model's player."""

import sys

import pytest
from helpers.script_modules import script

command, table, scenarios = (script(f"parts.gauntlet.{name}") for name in ("command", "table", "scenarios"))


def test_the_page_shows_the_recorded_results():
    page = table.PAGE.read_text("utf-8")
    assert table.with_current_tables(page, table.load()) == page


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True])
def test_trainers_of_mpqueue_continue_exactly_after_kills(is_packed, tmp_path):
    setup = script("parts.gauntlet.pipeline").Setup(
        0, sizes=(2800, 1200), cost_s=0.0, buffer=40, batch=6, is_packed=is_packed
    )
    runs = scenarios.Gauntlet(script("parts.gauntlet.peers").ENTRIES["mpqueue"], setup, tmp_path, 7, setup)
    outcome = runs.play([scenarios.Stage(2, 1), scenarios.Stage(1, 2), scenarios.Stage(0, 4)], 3, (0.05, 0.35))
    assert outcome.is_exact, outcome


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([[[[0], [1]]], [[[2]]]], (0, 0, True)), ([[[[0], [1]]], []], (1, 0, False)), ([[[[0], [1]]], [[[1], [2]]]], (0, 1, False))],
    ids=["exact", "lost", "twice"],
)  # fmt: skip
def test_lost_and_repeated_samples_are_counted(parts, expected):
    assert script("parts.gauntlet.verdict").judge([[0], [1], [2]], parts) == expected


@pytest.mark.parametrize("is_equal", [True, False])
def test_options_reach_the_player(is_equal, monkeypatch):
    from model import command as player
    from model import mutants

    calls = []
    monkeypatch.setattr(player, "main", lambda *given, **named: calls.append((given, named["jobs"])) or is_equal)
    monkeypatch.setattr(mutants, "main", lambda *given: calls.append(given) or is_equal)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runs = ("--model --minutes 0.5 --seed 3", "--mutants", "--mutants a b")
    codes = [command.main("", arguments.split()) for arguments in runs]
    assert codes == [0 if is_equal else 1] * 3
    assert calls == [((0.5, 3), 2), ([], 10, 1), (["a", "b"], 10, 1)]
