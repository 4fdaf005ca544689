"""``scripts/trainers``: its judgement, and one program of each trainer that is installed, killed and resumed."""

import importlib.util
import os

import pytest
from helpers.forked import Interpreter
from helpers.scripts import script

verdict, entries, killing, recording, table, known, command = (
    script(f"parts.trainers.{name}")
    for name in ("verdict", "entries", "killing", "recording", "table", "known", "command")
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
    table.PAGE.write_text("before\n\n<!-- drawn by scripts/trainers: versions -->\nearlier\n\nafter\n", "utf-8")
    table.save(ROWS)
    again = _row("flax: stream", "all 44 losses equal to the bit", set=table.PINNED, versions=["a 3"])
    table.save([_row("keras: by step", "x"), again])
    assert [row["versions"] for row in table.load()] == [["b 2", "a 1"], ["a 3"], ["a 1"]]
    drawn = "<!-- drawn by scripts/trainers: versions -->\n- Newest: a 1, b 2\n- Pinned: a 3\n"
    assert table.PAGE.read_text("utf-8") == f"before\n\n{drawn}\nafter\n"


def test_the_guide_has_what_the_data_have():
    page = table.PAGE.read_text("utf-8")
    assert table.page_drawn_anew(page, table.load()) == page


# Of programs that are run, those that differ, and that end by an error; with a version of Accelerate.
SKIPPING, STATEFUL = "accelerate: map-style", "accelerate: map-style, stateful"


@pytest.mark.parametrize(
    ("differing", "failing", "version", "status", "told"),
    [
        ([], [], "1.15.0", 0, ""),
        ([SKIPPING], [], "1.10.1", 0, "Known: accelerate before 1.15: "),
        ([SKIPPING], [], "1.15.0", 1, f"{SKIPPING}: it was to be equal to the bit"),
        ([SKIPPING, STATEFUL], [], "1.10.1", 1, f"{STATEFUL}: it was to be equal to the bit"),
        ([], [SKIPPING], "1.10.1", 1, f"{SKIPPING}: it was to be equal to the bit"),
        ([], [], "1.9", 1, f"{SKIPPING}: it was to differ"),
    ],
    ids=["equal", "known", "mended", "another", "error", "no longer"],
)
def test_runs_are_good_if_exactly_those_differ_that_are_known_to(
    differing, failing, version, status, told, monkeypatch, capsys
):
    def played(entry, feed, folder, seeds):
        if entry.name in failing:
            raise killing.ProgramFailedError("it ended")
        is_wrong = entry.name in differing or feed == "own"
        yield verdict.Verdict(8 * is_wrong, 8 * is_wrong, is_wrong, is_wrong, 60)

    monkeypatch.setattr(command, "played", played)
    monkeypatch.setattr(known.metadata, "version", lambda name: version)
    monkeypatch.setattr(entries.Entry, "missing", lambda entry: [])
    assert command.main("", ["--only", f"{SKIPPING}; {STATEFUL}"]) == status
    said = capsys.readouterr().out
    assert told in said
    assert ("Known:" in said) == (version != "1.15.0")


def test_what_is_known_names_programs_and_says_why_and_what_to_do():
    for each in known.KNOWN:
        assert set(each.names) <= set(entries.ENTRIES)
        assert each.package in {name for row in each.names for name in entries.ENTRIES[row].packages}
        assert each.reason.endswith(".")
        assert each.remedy.endswith(".")


# Most of what a program costs are its imports: so its parts are forked from an interpreter that has them, and of torch's
# trainers all from one. What `torchrun` starts is an interpreter of its own each time, as for a user. The interpreters
# are no parameters of one fixture: pytest ends that after each test, also where the next one has the same.
OF_TORCH = (
    "torchrun: stream", "accelerate: map-style, stateful", "transformers: map-style", "lightning: by step",
    "keras: by step",
)  # fmt: skip
OF_JAX = ("flax: stream",)
# The first test waits for all imports, which take 20 s on two CPUs; beside much else they have taken minutes.
waits_for_imports = pytest.mark.timeout(900)


def _interpreter_with(*modules):
    found = [name for name in modules if importlib.util.find_spec(name.partition(".")[0])]
    # pyarrow, which pandas imports, has a thread otherwise; no thread may be there when it is forked.
    environ = os.environ | {"KERAS_BACKEND": "torch", "USE_TF": "0", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    return Interpreter(*found, environ=environ)


@pytest.fixture(scope="module")
def with_torch():
    with _interpreter_with("torch.distributed.run", "accelerate", "transformers.trainer", "lightning", "keras") as made:
        yield made


@pytest.fixture(scope="module")
def with_jax():
    with _interpreter_with("optax", "flax.linen") as made:
        yield made


@pytest.mark.slow
@waits_for_imports
@pytest.mark.parametrize("name", OF_TORCH)
def test_a_trainer_of_torch_that_is_killed_and_resumed_is_exact(name, with_torch, tmp_path):
    _check_exact(name, with_torch, tmp_path)


@pytest.mark.slow
@waits_for_imports
@pytest.mark.parametrize("name", OF_JAX)
def test_a_trainer_of_jax_that_is_killed_and_resumed_is_exact(name, with_jax, tmp_path):
    _check_exact(name, with_jax, tmp_path)


def _check_exact(name, interpreter, tmp_path):
    entry = entries.ENTRIES[name]
    if entry.missing():
        pytest.skip(f"{', '.join(entry.missing())} is not installed; scripts/trainers runs it")

    def start(entry, task, said):
        _, _, module, *arguments = entry.command(task.part)
        code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        with open(os.devnull) as nothing:
            return interpreter.start(
                code, [killing.SCRIPTS / module, *arguments, killing.argument_of(task)],
                {0: nothing.fileno(), 1: said.fileno(), 2: said.fileno()}, folder=killing.SCRIPTS,
                environ=killing.environment_of(entry), new_session=True,
            )  # fmt: skip

    (found,) = killing.played(entry, "mpqueue", tmp_path, seeds=[len(name)], number=1, start=start)
    assert str(found).endswith("losses equal to the bit")
