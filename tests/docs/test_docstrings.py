"""Docstrings of public names say all that is needed where they stand, say it alike, and have examples that run."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from helpers.docstrings import arguments, documented, examples, sections, undescribed
from helpers.pages import ROOT, run_example

import mpqueue
import mpqueue.keras
from mpqueue.plan import options

FRONTENDS = {
    "mpqueue.Loader": options.LoaderOptions,
    "mpqueue.OrderedEnqueuer": options.EnqueuerOptions,
    "mpqueue.GeneratorEnqueuer": options.GeneratorEnqueuerOptions,
    "mpqueue.Server": options.ServerOptions,
    "mpqueue.keras.accelerate": options.AccelerateOptions,
}
EXAMPLES = examples()
# They start threads and hooks, which the forks of other tests are not to meet.
FRAMEWORKS = ("torch", "keras", "jax", "tf")


def frontend_of(name):
    return documented()[name]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_help_shows_each_option_with_its_type_default_and_description(frontend):
    value, kind = frontend_of(frontend), FRONTENDS[frontend]
    taken = inspect.signature(value).parameters
    described = arguments(sections(value)["Args"])
    for name, row in options.rows_of(kind).items():
        assert taken[name].default == row.default
        assert taken[name].annotation == kind.__annotations__[name].__origin__
        assert taken[name].kind == inspect.Parameter.KEYWORD_ONLY
        assert described[name] == row.text
    assert "options" not in taken.keys() | described.keys()


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_the_default_of_an_option_passes_its_check(frontend):
    for name, row in options.rows_of(FRONTENDS[frontend]).items():
        row.check(name, row.default)


def test_the_docstring_of_a_frontend_has_no_line_that_is_too_long():
    for frontend in FRONTENDS:
        assert max(map(len, inspect.getdoc(frontend_of(frontend)).splitlines())) <= 120


@pytest.mark.parametrize("face", [mpqueue.Loader, mpqueue.Server])
def test_help_shows_the_options_of_a_class_and_no_others(face):
    """Its constructor takes all, to say what those are called here that it does not know."""
    shown = inspect.signature(face)
    assert not [p for p in shown.parameters.values() if p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    assert {"source", "workers", "shuffle", "trace"} <= set(shown.parameters)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        face("name", [1], sizes=3) if face is mpqueue.Server else face([1], sizes=3)


def test_a_class_of_a_user_shows_its_own_arguments():
    class Own(mpqueue.Server):
        def __init__(self, folder):
            """Serve a folder."""

    assert list(inspect.signature(Own).parameters) == ["folder"]


def test_every_argument_is_described_where_it_stands():
    assert undescribed() == ([], [])


def docstrings(file):
    """Yield the line number and the text of each docstring of a module."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_docstrings_do_not_begin_with_a_question_word():
    questions = re.compile(r"(?:What|Whether|Where|How|When|Who|Which|As (?:there|above|in `|for `))\b")
    files = [*Path(mpqueue.__file__).parent.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in sorted(files)
        for line, text in docstrings(file)
        if questions.match(text)
    ]
    assert found == []


def framework_of(example):
    return example.module.partition("mpqueue.frameworks.")[2].partition(".")[0]


def examples_of(*names):
    chosen = [example for example in EXAMPLES if framework_of(example) in names]
    return pytest.mark.parametrize("example", chosen, ids=str)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if framework_of(each) not in FRAMEWORKS], ids=str)
def test_an_example_of_a_docstring_runs_as_it_stands(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example.text, str(example), "exec"), {"__name__": "example"})


@examples_of("torch")
def test_an_example_of_a_docstring_of_torch_runs_as_it_stands(example, tmp_path, launcher_with_torch):
    run_example(example.text, tmp_path, launcher_with_torch)


@examples_of("keras", "jax")
def test_an_example_of_a_docstring_of_keras_or_jax_runs_as_it_stands(example, tmp_path, launcher_with_keras):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    run_example(example.text, tmp_path, launcher_with_keras)


@examples_of("tf")
def test_an_example_of_a_docstring_of_tensorflow_runs_as_it_stands(example, tmp_path, launcher_with_tensorflow):
    run_example(example.text, tmp_path, launcher_with_tensorflow)
