"""Docstrings of public names say all that is needed where they stand, say it alike, and have examples that run."""

import ast
import dataclasses
import importlib.util
import inspect
import re
from typing import Literal

import pytest
from helpers.docstrings import arguments, documented, examples, sections, undescribed
from helpers.pages import DOCS, ROOT, run_example

import mpqueue
import mpqueue.keras
from mpqueue.plan.options import Options, SampleOptions

FACES = {
    "mpqueue.Loader": (Options, SampleOptions),
    "mpqueue.OrderedEnqueuer": (Options,),
    "mpqueue.GeneratorEnqueuer": (Options,),
    "mpqueue.Server": (Options, SampleOptions),
    "mpqueue.keras.accelerate": (Options,),
}
PAIRS = [(face, options) for face, many in FACES.items() for options in many]
# These mean nothing to a server. Keras has a bar of its own.
LACKING = {("mpqueue.Server", name) for name in ("copy", "monitor", "progress", "shard")}
LACKING |= {("mpqueue.keras.accelerate", "progress")}
# The number that is found as the run goes on is for workers that a loader has itself.
WIDER = {("mpqueue.Loader", "threads"): int | Literal["auto"]}
EXAMPLES = examples()
# They start threads and hooks, which the forks of other tests are not to meet.
FRAMEWORKS = ("torch", "keras", "jax", "tf")


def face_of(name):
    return documented()[name]


@pytest.mark.parametrize(("face", "options"), PAIRS)
def test_an_option_is_described_by_each_face_as_where_it_is_checked(face, options):
    """A face may add a sentence of its own."""
    said = arguments(sections(face_of(face))["Args"])
    for name, text in arguments(sections(options)["Attributes"]).items():
        if (face, name) not in LACKING:
            assert said.get(name, "").startswith(text), f"{face}: {name} is described otherwise: {text}"


@pytest.mark.parametrize(("face", "options"), PAIRS)
def test_an_option_has_the_type_and_the_default_of_where_it_is_checked_in_each_face(face, options):
    value = face_of(face)
    taken = inspect.signature(value.__init__ if inspect.isclass(value) else value).parameters
    for field in dataclasses.fields(options):
        if (face, field.name) in LACKING:
            assert field.name not in taken
        else:
            parameter = taken[field.name]
            assert parameter.default == field.default
            assert parameter.annotation == WIDER.get((face, field.name), field.type)
            assert parameter.kind == parameter.KEYWORD_ONLY


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


@pytest.mark.parametrize("options", [Options, SampleOptions])
def test_the_page_of_options_lists_each_of_them_with_its_default(options):
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", (DOCS / "options.md").read_text("utf-8"), re.M))
    for field in dataclasses.fields(options):
        told = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
        assert rows.get(field.name) == told, field.name


@pytest.mark.parametrize("options", [Options, SampleOptions])
def test_each_option_is_passed_where_types_are_checked(options):
    """mypy reads that file, so that an option is typed for users as it is written there."""
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text("utf-8"))
    passed = {
        keyword.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FACES
        for keyword in node.keywords
    }
    assert sorted({field.name for field in dataclasses.fields(options)} - passed) == []


def test_every_argument_is_described_where_it_stands():
    assert undescribed() == ([], [])


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
