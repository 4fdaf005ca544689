"""Docstrings of public names are complete and consistent, and their examples run."""

import importlib.util
import inspect

import pytest
from helpers.docstrings import arguments, documented, examples, sections, undescribed
from helpers.pages import run_example

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
# They start threads and hooks that must not be inherited by forks of other tests.
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


def test_docstring_of_a_frontend_has_short_lines():
    for frontend in FRONTENDS:
        assert max(map(len, inspect.getdoc(frontend_of(frontend)).splitlines())) <= 120


@pytest.mark.parametrize("frontend", [mpqueue.Loader, mpqueue.Server])
def test_help_shows_exactly_the_options_of_a_class(frontend):
    """The constructor takes any keyword, so that errors can suggest the right name of an unknown option."""
    shown = inspect.signature(frontend)
    assert not [p for p in shown.parameters.values() if p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    assert {"source", "workers", "shuffle", "trace"} <= set(shown.parameters)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        frontend("name", [1], sizes=3) if frontend is mpqueue.Server else frontend([1], sizes=3)


def test_a_user_subclass_shows_its_own_arguments():
    class Own(mpqueue.Server):
        def __init__(self, folder):
            """Serve a folder."""

    assert list(inspect.signature(Own).parameters) == ["folder"]


def test_every_argument_has_its_own_description():
    assert undescribed() == ([], [])


def framework_of(example):
    return example.module.partition("mpqueue.frameworks.")[2].partition(".")[0]


def examples_of(*names):
    chosen = [example for example in EXAMPLES if framework_of(example) in names]
    return pytest.mark.parametrize("example", chosen, ids=str)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if framework_of(each) not in FRAMEWORKS], ids=str)
def test_a_docstring_example_runs_unchanged(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example.text, str(example), "exec"), {"__name__": "example"})


@examples_of("torch")
def test_a_docstring_example_with_torch_runs_unchanged(example, tmp_path, launcher_with_torch):
    run_example(example.text, tmp_path, launcher_with_torch)


@examples_of("keras", "jax")
def test_a_docstring_example_with_keras_or_jax_runs_unchanged(example, tmp_path, launcher_with_keras):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    run_example(example.text, tmp_path, launcher_with_keras)


@examples_of("tf")
def test_a_docstring_example_with_tensorflow_runs_unchanged(example, tmp_path, launcher_with_tensorflow):
    run_example(example.text, tmp_path, launcher_with_tensorflow)
