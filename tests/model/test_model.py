"""The player with fixed seeds, and programs that showed differences."""

import itertools
import os
import re
import subprocess
import sys

import pytest
from helpers.sweeps import part_of
from model import command, drawing, mutants, orders, pipelines, playing, shrinking, stages
from model.functions import Collating, Drawing
from model.orders import Change
from model.windows import Balance

from mpqueue.worker.retry_markers import Marker, RetryBegin

PLAYS = {"loader": 120, "ordered": 20, "generator": 20, "server": 10}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("front", sorted(PLAYS))
def test_product_equals_the_model(front, tmp_path):
    found, count = [], part_of(PLAYS[front], 16)
    assert command.main(count, 1, tmp_path, jobs=1, report=found.append, fronts=front), "\n".join(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("focus", [("shard", "load"), ("shard", "exclude", "last"), ()])
def test_balanced_ranks_equal_the_model(focus, tmp_path):
    found, focus = [], ("balance", *focus)
    assert command.main(20, 3, tmp_path, jobs=1, report=found.append, fronts="loader", focus=focus), "\n".join(found)


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", mutants.names())
def test_mutant_changes_lines_that_the_package_has(name):
    with open(os.path.join(mutants.FOLDER, f"{name}.patch"), encoding="utf-8") as file:
        parts = re.split(r"^(?=--- a/|@@ )", file.read(), flags=re.MULTILINE)[1:]
    num_hunks = 0
    for part in parts:
        if part.startswith("--- a/"):
            path = part.splitlines()[0].removeprefix("--- a/")
            with open(os.path.join(command.TESTS, "..", path), encoding="utf-8") as file:
                source = file.read()
            continue
        # Without a context that was moved or rewritten, `patch` refuses, and the whole run of mutants ends.
        lines = part.split("\ndiff --git")[0].splitlines()[1:]
        before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-"))
        assert before, part
        assert before in source, part
        num_hunks += 1
    assert num_hunks


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("front", drawing.fronts())
def test_product_equals_the_model_in_more_plays(front, tmp_path):
    found, count = [], {"loader": 300, "torch": 40}.get(front, 12)
    assert command.main(count, 2, tmp_path, jobs=1, report=found.append, fronts=front), "\n".join(found)


def ended(program):
    """Run a program of a difference to its end."""
    environment = {**os.environ, "PYTHONPATH": command.TESTS}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_difference_is_shrunk_to_a_program(monkeypatch):
    monkeypatch.setattr(stages.Enumerate, "element", lambda self, position, run: self.inputs[0].element(position, run))
    batch = "batch", 3, False, Collating()
    source = ("range", 60), ("shuffle",), ("map", Drawing(1, "rpn"), 1, False), ("enumerate",), batch
    operations = [("next", 3), ("save",), ("exclude", 5, 3), ("next", 2)]
    given = playing.Play(7, source, {}, "loader", (0, "process", 1), ("process",), operations)
    small = shrinking.shrunk(given, lambda play: command.found(play) is not None)
    assert [name for name, *_ in small.source[1:]] == ["enumerate"]
    assert [name for name, *_ in small.operations] == ["next"]
    with pytest.raises(playing.Difference) as difference:
        playing.play(small)
    program = difference.value.program
    assert program.count("\n") <= 30
    assert "AssertionError" in ended(program).stderr


@pytest.mark.slow
def test_program_of_a_difference_stops_its_server():
    script = playing.Script()
    script.do("source = range(4)")
    script.do("runs = (server := Served(source, seed=1, workers=1, mode='split', world=1)) and [server.attach(0)]")
    try:
        with pytest.raises(playing.Difference):
            script.check("outcome(next, iter(runs[0]))", 7)
    finally:
        script.space["server"].stop()
    done = ended(script.text("A difference."))
    assert done.returncode == 1 and "AssertionError" in done.stderr


def test_first_turns_have_all_front_ends_in_an_order_of_the_seed():
    names = drawing.fronts()
    rounds = {}
    for seed in range(20):
        found = list(itertools.islice(command.turns(seed, names), 2 * len(names)))
        assert found == list(itertools.islice(command.turns(seed, names), 2 * len(names)))
        order = [front for front, _ in found]
        assert sorted(order[: len(names)]) == sorted(order[len(names) :]) == sorted(names)
        assert len({batch for _, batch in found}) == len(found)
        rounds[seed] = tuple(order)
    assert len(set(rounds.values())) > 10


@pytest.mark.slow
def test_plays_name_their_front_end_and_change_it_with_each_turn(monkeypatch):
    monkeypatch.setattr(command, "_TURN_S", (1, 1))
    monkeypatch.setattr(drawing, "fronts", lambda: ["generator", "ordered"])
    found, plays = [], command.plays(300, 5, 1, None)
    while {each["front"] for each in found} != {"generator", "ordered"}:
        found.append(next(plays))
    plays.close()
    first = next(command.turns(5, drawing.fronts()))
    assert found[0]["front"] == first[0]
    assert found[0]["seed"] // command._CANDIDATES == first[1]


def test_mutant_is_not_detected_by_a_difference_of_the_package(monkeypatch):
    names, own = [{"seed": 1, "front": "loader", "error": "flaky"}, {"seed": 2, "front": "loader", "error": "new"}], []
    monkeypatch.setattr(command, "plays", lambda *_: (each for each in names))
    monkeypatch.setattr(command, "replayed", lambda seed, *_: {1: "flaky", 2: None}[seed])
    given = "short-block-stays-last", ".", 60, 1, 1, "loader", ["blocks"]
    monkeypatch.setattr(mutants.shutil, "copytree", lambda *_, **__: None)
    monkeypatch.setattr(mutants.subprocess, "run", lambda *_, **__: None)
    assert mutants.tried(*given, own.append) == (names[1], 2)
    assert own == names[:1]


@pytest.mark.slow
def test_play_is_replayed_in_a_process_of_its_own():
    assert command.replayed(3, "ordered") is None
    assert command.replayed(3, "unknown") == "the process ended with 1"


def test_drawings_follow_from_the_seed():
    assert [repr(drawing.play(seed)) for seed in range(20)] == [repr(drawing.play(seed)) for seed in range(20)]


def test_excluded_samples_and_places_by_definition():
    setup = orders.Setup(pipelines.stage_of((("range", 7), ("batch", 2, False, tuple))))
    found = orders.batches(setup, 0, 0, changes=[Change(0, 1, 1, {3, 6})])
    assert [(each.batch, each.value) for each in found] == [(0, (0, 1)), (1, (2,)), (2, (4, 5))]
    assert orders.sought([Change(0, 3, 1, {5})], 0, 1, 1) == [Change(0, 1, 1, {5})]


def test_windows_by_definition():
    setup = orders.Setup(range(11), is_dataset=False, batch_size=2, balance=Balance(int, steps=2))
    ranks = [[each.ids for each in orders.batches(setup, 0, 0, 2, rank)] for rank in range(2)]
    window = [ids for of_rank in ranks for ids in of_rank[:2]]
    assert sorted(each for ids in window for each in ids) == list(range(8))
    assert list(map(sum, window)) == [7] * 4
    assert [of_rank[2:] for of_rank in ranks] == [[[8, 9]], [[10, 0]]]  # the last one is filled up, and in no window
    alone = [each.ids for each in orders.batches(setup, 0, 0, 1, start=4)]
    assert alone == [[8, 9], [10]]


def test_marked_sample_of_a_nested_endless_epoch_has_a_name_of_three_words():
    told = []
    marker = Marker(told.append)
    marker.is_on = True
    RetryBegin(lambda *_: None, marker, ()).look(1, (5 << 64) + 3, -1)
    assert told == [(1, 3, (1 << 64) - 1)]
