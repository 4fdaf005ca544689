"""``scripts/trainers``: its judgement, and one program of each trainer that is installed, killed and resumed."""

import contextlib
import os

import pytest
from helpers.forked import Interpreter
from helpers.scripts import script

verdict, entries, killing, recording, table = (
    script(f"parts.trainers.{name}") for name in ("verdict", "entries", "killing", "recording", "table")
)
WHOLE = [(1, "a", [0, 1]), (2, "b", [2, 3]), (3, "c", [4, 5]), (4, "d", [6, 7])]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([WHOLE[:3], WHOLE[2:]], "all 4 losses equal to the bit"),
        ([WHOLE[:2], [(3, "x", [4, 5]), (4, "d", [6, 7])]], "1 of 4 losses differ; the same samples"),
        ([WHOLE[:2], [(3, "x", [5, 4]), (4, "y", [6, 7])]], "2 of 4 losses differ; 1 steps of other samples"),
        ([WHOLE[:2], [(3, "x", [0, 1]), (4, "d", [6, 7])]], "1 of 4 losses differ; 2 samples lost, 2 twice"),
        ([WHOLE[:3], WHOLE[:2]], "2 of 4 losses differ; 4 samples lost, 0 twice"),
        ([WHOLE, [(5, "e", [0])]], "1 of 4 losses differ; 0 samples lost, 1 twice"),
        ([WHOLE[:1], []], "3 of 4 losses differ; 6 samples lost, 0 twice"),
    ],
    ids=["exact", "loss", "order", "repeated", "short", "long", "nothing"],
)
def test_what_differs_from_an_undisturbed_run_is_told(parts, told):
    found = verdict.judge(WHOLE, parts)
    assert str(found) == told
    assert found.is_exact() == (told == "all 4 losses equal to the bit")


def test_kills_come_behind_checkpoints():
    for seed in range(50):
        first, second = killing.kills_of(recording.STEPS, seed)
        assert recording.SAVE_EVERY < first < second - recording.SAVE_EVERY + 1
        assert second < recording.STEPS - 1


@pytest.mark.parametrize("entry", entries.ENTRIES.values(), ids=lambda entry: entry.name)
def test_an_entry_names_a_program_that_is_there(entry):
    assert (killing.SCRIPTS / "parts" / "trainers" / f"{entry.program}.py").exists()
    assert not entry.ranks or len(entry.ranks) == 3
    assert (entry.environment != {}) == (entry.program == "loop_keras")


def _row(name, told, **others):
    row = {"name": name, "fed by": "mpqueue", "set": table.NEWEST, "versions": ["a 1"], "told": told, "plans": 1}
    return row | others


ROWS = [
    _row("flax: stream", "all 44 losses equal to the bit", plans=3, versions=["b 2", "a 1"]),
    _row("flax: stream", "2 of 44 losses differ; the same samples", set=table.PINNED, versions=["a 0"]),
]


def test_the_table_has_a_line_for_each_program_that_was_run():
    head, _, line = table.drawn(table.RUNS, ROWS).splitlines()
    assert head == "| A program | its own | mpqueue | mpqueue, pinned versions |"
    cells = "| all 44 losses equal; 3 plans | 2 of 44 losses differ; the same samples |"
    assert line == f"| Flax and Optax, a stream |  {cells}"
    assert table.drawn(table.VERSIONS, ROWS) == "- Newest: a 1, b 2\n- Pinned: a 0\n"


def test_rows_are_kept_in_place_of_earlier_ones_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "DATA", tmp_path / "data.json")
    monkeypatch.setattr(table, "PAGE", tmp_path / "page.md")
    table.PAGE.write_text("before\n\n<!-- drawn from trainers.json: versions -->\nearlier\n\nafter\n", "utf-8")
    table.save(ROWS)
    again = _row("flax: stream", "all 44 losses equal to the bit", set=table.PINNED, versions=["a 3"])
    table.save([_row("keras: by step", "x"), again])
    assert [row["versions"] for row in table.load()] == [["b 2", "a 1"], ["a 3"], ["a 1"]]
    drawn = "<!-- drawn from trainers.json: versions -->\n- Newest: a 1, b 2\n- Pinned: a 3\n"
    assert table.PAGE.read_text("utf-8") == f"before\n\n{drawn}\nafter\n"


def test_the_guide_has_what_the_data_have():
    page = table.PAGE.read_text("utf-8")
    assert table.page_drawn_anew(page, table.load()) == page


# Trainers that are heavy to install are not among the packages of the tests: `scripts/trainers` runs them.
ONE_OF_EACH = (
    "torchrun: stream", "transformers: map-style", "accelerate: map-style, stateful", "lightning: by step",
    "flax: stream", "keras: by step",
)  # fmt: skip

# Most of what a program costs: its parts are forked from an interpreter that has that. What torchrun starts cannot be.
IMPORTS = {
    "loop_transformers": ("transformers.trainer",), "loop_accelerate": ("accelerate",), "loop_lightning": ("lightning",),
    "loop_flax": ("optax", "flax.linen"), "loop_keras": ("keras", "torch"),
}  # fmt: skip


@contextlib.contextmanager
def starting(entry):
    """Have the parts of a program be forked."""
    # pyarrow, which pandas imports, has a thread otherwise; no thread may be there when it is forked.
    environ = killing.environment_of(entry) | {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
    code = f"import runpy; runpy.run_module('parts.trainers.{entry.program}', run_name='__main__', alter_sys=True)"
    with Interpreter(*IMPORTS[entry.program], environ=environ) as interpreter, open(os.devnull) as nothing:

        def start(entry, task, said):
            return interpreter.start(
                code, [killing.SCRIPTS / entry.program, killing.argument_of(task)],
                {0: nothing.fileno(), 1: said.fileno(), 2: said.fileno()}, folder=killing.SCRIPTS, new_session=True,
            )  # fmt: skip

        yield start


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_trainer_that_is_killed_and_resumed_is_exact(name, tmp_path):
    entry = entries.ENTRIES[name]
    if entry.missing():
        pytest.skip(f"{', '.join(entry.missing())} is not installed; scripts/trainers runs it")
    forking = starting(entry) if entry.program in IMPORTS else contextlib.nullcontext(killing.by_new_python)
    with forking as start:
        (found,) = killing.played(entry, "mpqueue", tmp_path, seeds=[len(name)], number=1, start=start)
    assert str(found).endswith("losses equal to the bit")
