"""``scripts/gauntlet``: its judgement, its tables, and a short run of its own."""

import json

import numpy as np
import pytest
from helpers.scripts import script

verdict, table, own, pipeline = (script(f"parts.gauntlet.{name}") for name in ("verdict", "table", "own", "pipeline"))
scenarios, peers, ranks = (script(f"parts.gauntlet.{name}") for name in ("scenarios", "peers", "ranks"))
UNDISTURBED = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]


def test_parts_that_go_on_where_the_one_before_ended_are_exact():
    parts = [[[[0, 1], [4, 5]], [[2, 3], [6, 7]]], [[[8]]]]
    assert verdict.judge(UNDISTURBED, parts) == (0, 0, True)


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([[[[0, 1], [2, 3]]], [[[6, 7], [8]]]], (2, 0, False)),
        ([[[[0, 1], [2, 3]]], [[[2, 3], [4, 5], [6, 7], [8]]]], (0, 2, False)),
        ([[[[2, 3], [0, 1]]], [[[4, 5], [6, 7], [8]]]], (0, 0, False)),
        ([[[[0, 1], [2, 3]]], [[[4, 6], [5, 7], [8]]]], (0, 0, False)),
        ([[[[0, 1]], [[4, 5]]], [[[2, 3], [6, 7], [8]]]], (0, 0, False)),
        ([[[[0, 1]]], []], (7, 0, False)),
        ([[[[0, 1], [2, 3], [4, 5], [6, 7], [8], [9]]]], (0, 1, False)),
    ],
    ids=["lost", "twice", "swapped", "mixed", "a rank ahead", "cut", "new"],
)
def test_what_differs_from_an_undisturbed_run_is_told(parts, wanted):
    assert verdict.judge(UNDISTURBED, parts) == wanted


def test_a_batch_of_all_ranks_is_put_together():
    parts = [[[[1], [2]], [[0], [3]]], [[[4, 5], [7, 6], [8]]]]
    assert verdict.judge(UNDISTURBED, parts, splits_batch=True) == (0, 0, True)
    assert verdict.judge(UNDISTURBED, [parts[0], [[[6, 7], [4, 5], [8]]]], splits_batch=True) == (0, 0, False)


def test_the_batches_of_ranks_alternate_until_one_has_no_more():
    assert verdict.stream([[[0], [2], [4]], [[1], [3]]]) == [[0], [1], [2], [3], [4]]


def test_the_numbers_of_packed_rows_are_found():
    rows = np.array([[5, 5, 0, 7], [9, 9, 0, 0]])
    segments = np.array([[1, 1, 2, 3], [1, 1, 0, 0]])
    assert pipeline.numbers_in(rows, segments) == [5, 0, 7, 9]


def test_a_sequence_repeats_its_number():
    sequence = pipeline.Decode(0.0, is_packed=True)(12)
    assert set(sequence.tolist()) == {12}
    assert len(sequence) == pipeline.length_of(12)
    assert pipeline.keep_sequence(sequence) == pipeline.keep(12)


ROWS = [
    table.row_of(
        "mpqueue",
        table.BATCHES,
        "mpqueue 1",
        dict.fromkeys(scenarios.CHANGES, scenarios.Outcome(verdict.Verdict(0, 0, True), "", 0.123, 4567)),
    ),
    table.row_of(
        "litdata",
        table.BATCHES,
        "litdata 2",
        {
            next(iter(scenarios.CHANGES)): scenarios.Outcome(verdict.Verdict(1200, 0, False), "", 2.0, 12),
            list(scenarios.CHANGES)[1]: scenarios.Outcome(refusal="ValueError: no"),
        },
    ),
]


def test_a_table_has_a_row_for_each_entry_and_a_number_for_each_refusal():
    head, _, ours, theirs = table.drawn(table.BATCHES, ROWS).splitlines()
    assert head.count("|") == ours.count("|") == theirs.count("|") == len(scenarios.CHANGES) + 2
    assert "**0 lost, 0 twice, same order**; 0.12 s; 5 kB" in ours
    assert "| 1,200 lost, 0 twice, another order; 2 s; 12 B | ended by an error (1) |" in theirs
    assert table.drawn(table.WORDS, ROWS) == "1. litdata: ``ValueError: no``\n"
    assert table.drawn(table.VERSIONS, ROWS) == "- litdata 2, mpqueue 1\n"


def test_tables_are_drawn_between_their_comment_and_the_next_empty_line():
    page = "before\n\n<!-- drawn from gauntlet.json: their words -->\nearlier\n\nafter\n"
    wanted = "before\n\n<!-- drawn from gauntlet.json: their words -->\n1. litdata: ``ValueError: no``\n\nafter\n"
    assert table.page_drawn_anew(page, ROWS) == wanted


def test_the_page_has_the_tables_of_the_data():
    page = table.PAGE.read_text("utf-8")
    assert table.page_drawn_anew(page, table.load()) == page
    assert all(f"gauntlet.json: {name} -->" in page for name in (table.BATCHES, table.ROWS, table.WORDS))


def test_rows_that_are_kept_replace_earlier_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "DATA", tmp_path / "gauntlet.json")
    table.save(ROWS[::-1])
    table.save([ROWS[1] | {"version": "litdata 3"}])
    assert [row["version"] for row in table.load()] == ["mpqueue 1", "litdata 3"]


def test_so_many_kills_are_planned_as_were_asked_for():
    planned = list(own.streams(200, seed=3))
    assert sum(len(stream.stages) - 1 for stream in planned) == 200
    assert planned == list(own.streams(200, seed=3)) != list(own.streams(200, seed=4))
    stages = [stage for stream in planned for stage in stream.stages]
    assert {stage.world for stage in stages} == {1, 2, 4, 8}
    assert {stage.workers for stage in stages} == {0, 1, 2, 3, 4}
    assert {stage.backend for stage in stages} == {"process", "thread", "ray", "server"}
    served = [stream for stream in planned if stream.kind == own.SERVER]
    assert all(len({stage.world for stage in stream.stages}) == 1 for stream in served)


@pytest.mark.parametrize("name", peers.ENTRIES)
def test_an_entry_names_a_feed_that_is_there(name):
    entry = peers.ENTRIES[name]
    text = (script("parts.machine").SCRIPTS / "parts" / "gauntlet" / f"{entry.module}.py").read_text("utf-8")
    assert f"def {entry.feed}(" in text or f"\n{entry.feed} = " in text
    assert not entry.writes or "def prepare(" in text


def test_a_feed_that_fails_is_quoted(tmp_path):
    entry = peers.Entry("", "feed_mpqueue", "there_is_none", "mpqueue", group="")
    outcome = scenarios.Gauntlet(entry, pipeline.Setup(0), tmp_path, 1).play([scenarios.Stage(0, 1)] * 2)
    assert outcome.verdict is None
    assert outcome.refusal.startswith("AttributeError: module 'parts.gauntlet.feed_mpqueue' has no attribute")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [own.LOADER, own.SERVER])
def test_kills_and_resumes_are_exact(kind):
    told = []
    assert own.run(2, 7, told.append, worlds=(1, 2), kinds=[kind]), told
    assert told[-1] == "seed 7: 2 kills and resumes in 1 streams: 0 lost, 0 twice, order equal"


def test_a_trainer_writes_whole_states_and_the_time_to_its_first_batch(tmp_path):
    stage = scenarios.Stage(0, 1)
    setup = pipeline.Setup(0, sizes=(70, 30), cost_s=0.0, buffer=3, batch=4)
    run = ranks.Ranks(peers.ENTRIES["mpqueue"], [setup], tmp_path / "run", save_every=2)
    try:
        run.wait_for_end()
        step, files = run.last_states()
        assert step == sum(run.counts()) // 2 * 2
        assert [file.exists() for file in files] == [True]
        assert run.first_seconds() > 0
    finally:
        run.kill()
    numbers = [number for batch in run.batches()[0] for number in batch]
    assert sorted(numbers) == sorted(filter(pipeline.keep, [*setup.ranges[0], *setup.ranges[1]]))
    assert json.dumps(stage) == '[0, 1, "process"]'
