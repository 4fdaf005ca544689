"""The mutation of modules: what is changed, what is left alone, and that the lists it goes by are right."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from helpers.scripts import SCRIPTS, script

ROOT = SCRIPTS.parent


def part(name):
    return script(f"parts.mutants.{name}")


def mutants(source):
    """The changed lines of all mutants of a function's body."""
    return [mutant.new for mutant in part("mutations").mutants_of(textwrap.dedent(source).encode())]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a = b + c", ["a = b - c"]),
        ("a = (b) * (c)", ["a = (b) // (c)"]),
        ("a = b < c", ["a = b <= c", "a = b >= c"]),
        ("a = b not  in c", ["a = b in c"]),
        ("a = b and c and d", ["a = b or c or d"]),
        ("a = not b", ["a = b"]),
        ("a = 7", ["a = 8"]),
        ("a = True", ["a = False"]),
        ("a = 'x'", ["a = 'XXxXX'"]),
        ("a = b'x'", ["a = b'XXxXX'"]),
        ("a = min(b, c)", ["a = max(b, c)"]),
        ("a = range(b)", ["a = range((b) + 1)"]),
        ("a = b[c:]", ["a = b[(c) + 1:]"]),
        ("a = b if c else d", ["a = b if (not (c)) else d"]),
        ("a = [b for b in c if b]", ["a = [b for b in c if (not (b))]"]),
        ("a += b", ["pass", "a -= b"]),
        ("a()", ["pass"]),
        ("del a", ["pass"]),
        ("if a:\n    b", ["if (not (a)):"]),
        ("for a in b:\n    continue", ["break"]),
        ("raise a", ["pass"]),
    ],
)
def test_a_line_is_changed_in_each_way_that_there_is(line, expected):
    assert mutants(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        '"""A docstring."""', 'a = b\n"""A docstring."""', "a: int | None", "assert a < 1", "a = zip(b, c, strict=True)", 'raise a("b")', 'a = f"b{1}"',
        "@a(1)\ndef b():\n    pass", "if TYPE_CHECKING:\n    a = 1", 'T = TypeVar("T")', "def a(b: Literal[1]):\n    pass",
        "a = b", "import a",
    ],
)  # fmt: skip
def test_what_says_nothing_to_the_program_is_left_alone(line):
    assert mutants(line) in ([], ["pass"] if line.startswith("raise") else [])


def test_what_a_function_returns_and_binds_again_is_taken_away():
    found = mutants(
        """
        def f(a):
            a = g
            b = g
            self.c = b
            return b
        """
    )
    assert found == ["pass", "pass", "return None"]


def test_a_mutant_says_where_it_is_and_differs_in_one_place():
    (mutant,) = part("mutations").mutants_of("# ä\nx = (a +\n  b)  # é\n".encode())
    assert (mutant.line, mutant.old, mutant.new) == (2, "x = (a +", "x = (a -")
    assert mutant.source == "# ä\nx = (a -\n  b)  # é\n".encode()
    assert mutant.difference == "-x = (a +\n+x = (a -"


def test_known_survivors_have_reasons(tmp_path):
    survivors, path = part("survivors"), tmp_path / "survivors.md"
    path.write_text("# Title\n\n## a.py\n\n- `x = 1` -> `x = 2`: it is the same\n")
    assert survivors.read(path) == {("a.py", "x = 1", "x = 2"): "it is the same"}
    path.write_text("- `x = 1` -> `x = 2`\n")
    with pytest.raises(ValueError, match="expected"):
        survivors.read(path)


def test_the_modules_and_tests_of_the_tables_exist():
    targets = part("targets")
    for module, tests in {**targets.PURE, **targets.OWN}.items():
        assert (ROOT / "mpqueue" / module).is_file(), module
        assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
    for folder, tests in targets.FOLDERS.items():
        assert (ROOT / "mpqueue" / folder).is_dir()
        assert [name for name in tests if not (ROOT / "tests" / name).is_dir()] == []
    known = part("survivors").read(Path(part("survivors").__file__).with_name("survivors.md"))
    assert [module for module, _, _ in known if not (ROOT / "mpqueue" / module).is_file()] == []


def test_the_line_of_a_known_survivor_is_in_its_module():
    known = part("survivors").read(Path(part("survivors").__file__).with_name("survivors.md"))
    lines = {
        module: {line.strip() for line in (ROOT / "mpqueue" / module).read_text("utf-8").splitlines()}
        for module, _, _ in known
    }
    assert [(module, old) for module, old, _ in known if old not in lines[module]] == []


def test_a_sample_is_the_same_for_the_same_seed():
    one, again, other = (part("targets").sampled(ROOT / "mpqueue", 5, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert sum(map(len, one.values())) == 5


def test_a_sample_is_drawn_below_the_folders_that_are_named():
    drawn = part("targets").sampled(ROOT / "mpqueue", 5, 1, ["files", "worker/marked.py"])
    assert sum(map(len, drawn.values())) == 5
    assert {module for module in drawn if not module.startswith(("files/", "worker/marked.py"))} == set()


def test_a_folder_that_has_no_share_of_the_draw_is_an_error():
    with pytest.raises(ValueError, match="nowhere has no mutants here"):
        part("targets").sampled(ROOT / "mpqueue", 5, 1, ["files", "nowhere"])


def test_what_the_tests_of_a_module_let_live_is_tried_against_those_of_its_folder():
    wider_tests_of = part("targets").wider_tests_of
    assert wider_tests_of("engine/ledger.py") == ["engine", "loader"]
    assert wider_tests_of("dataset/mixing.py") == ["dataset"]
    assert wider_tests_of("service/connections.py") == []  # they were all


def test_a_module_without_tests_is_an_error():
    with pytest.raises(ValueError, match=r"coordinator\.py has no tests here"):
        part("targets").tests_of("coordinator.py")


def test_the_program_tells_how_it_is_used():
    run = [sys.executable, str(SCRIPTS / "mutants")]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "tells which changes no test notices" in done.stdout
    done = subprocess.run([*run, "--list"], capture_output=True, text=True, check=True, timeout=60)
    assert "memory/slots.py" in done.stdout


def has_namespaces():
    """Whether the program can have a namespace for process numbers, in either way that it tries."""
    for users in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *users, "--pid", "--fork", "--mount-proc", "true"]
        if shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return True
    return False


needs_namespaces = pytest.mark.skipif(not has_namespaces(), reason="no namespaces here: the program refuses to run")


@needs_namespaces
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_program_that_was_called(how, tmp_path):
    """The outer process is struck while the namespace's first one and a child of it in a session of its own wait."""
    inner = "import os, signal; pid = os.fork(); pid or os.setsid(); os.write(1, b'runs\\n'); signal.pause()"
    program = f"from parts.mutants import alone; import sys; sys.exit(alone.run([sys.executable, '-c', {inner!r}]))"
    environ = os.environ | {"PYTHONPATH": str(SCRIPTS), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ) as outer:
        try:
            assert [outer.stdout.readline() for _ in range(2)] == ["runs\n"] * 2
            assert [folder.name[:8] for folder in tmp_path.iterdir()] == ["mutants-"]
            outer.send_signal(how)
            assert outer.stdout.read() == ""  # all have closed it, and none would while it waits
        finally:
            outer.kill()
        assert outer.wait() == (-how if how == signal.SIGKILL else 128 + how)
    if how == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []


@needs_namespaces
def test_the_program_ends_as_what_it_runs_alone_does(tmp_path, monkeypatch, capfd):
    alone, before = part("alone"), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    show = f"import os, sys; print(os.getpid(), os.listdir(os.environ[{alone.FOLDER!r}])); sys.exit(3)"
    try:
        assert alone.run([sys.executable, "-c", show]) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capfd.readouterr().out == "1 []\n"
    assert list(tmp_path.iterdir()) == []


@needs_namespaces
@pytest.mark.slow
def test_a_mutant_dies_by_the_tests_of_its_module():
    line = (ROOT / "mpqueue" / "memory" / "slots.py").read_text("utf-8").splitlines().index("PAGE = 4096") + 1
    run = [sys.executable, str(SCRIPTS / "mutants"), "memory/slots.py", "--lines", f"{line}-{line}", "--killers"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "'PAGE = 4097': tests/memory/test_slot_states.py::" in done.stdout
    assert "100.0 %" in done.stdout
