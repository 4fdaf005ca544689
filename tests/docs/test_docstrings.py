"""Docstrings of public names are complete and consistent, and their examples run."""

import importlib.util
import inspect
from typing import ForwardRef

import pytest
from helpers.doc_pages import run_example
from helpers.docstrings import arguments, documented, examples, sections, undescribed

import mpqueue
import mpqueue.keras
from mpqueue.plan.options import options
from mpqueue.plan.options.signatures import GROUPS, grouped, texts_of

FRONTENDS = {
    "mpqueue.Loader": options.LoaderOptions,
    "mpqueue.OrderedEnqueuer": options.EnqueuerOptions,
    "mpqueue.GeneratorEnqueuer": options.GeneratorEnqueuerOptions,
    "mpqueue.Server": options.ServerOptions,
    "mpqueue.keras.accelerate": options.AccelerateOptions,
}


def framework_of(example):
    return example.module.partition("mpqueue.frameworks.")[2].partition(".")[0]


# The interpreters of examples with frameworks, which start threads and hooks that forks of other tests must not inherit.
INTERPRETERS = {"torch": "torch", "keras": "keras", "jax": "keras", "tf": "tensorflow"}
EXAMPLES = [(INTERPRETERS.get(framework_of(example)), example) for example in examples()]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_help_shows_each_option_with_its_type_default_and_description(frontend):
    value, kind = documented()[frontend], FRONTENDS[frontend]
    taken = inspect.signature(value).parameters
    described = {name: text for title in GROUPS for name, text in arguments(sections(value).get(title, "")).items()}
    texts = texts_of(kind)
    for name, row in options.rows_of(kind).items():
        assert taken[name].default == row.default
        hint = kind.__annotations__[name].__origin__
        # A class that few programs need is not imported for its option.
        assert taken[name].annotation == (hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint)
        assert taken[name].kind == inspect.Parameter.KEYWORD_ONLY
        assert described[name] == texts[name]
        row.check(name, row.default)
    assert "options" not in taken.keys() | described.keys()
    assert max(map(len, inspect.getdoc(value).splitlines())) <= 120


@pytest.mark.parametrize("frontend", [mpqueue.Loader, mpqueue.Server])
def test_help_shows_exactly_the_options_of_a_class(frontend):
    """The constructor takes any keyword, so that errors can suggest the right name of an unknown option."""
    shown = inspect.signature(frontend)
    assert not [p for p in shown.parameters.values() if p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    assert {"source", "workers", "shuffle", "trace"} <= set(shown.parameters)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        frontend("name", [1], sizes=3) if frontend is mpqueue.Server else frontend([1], sizes=3)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_help_groups_all_options_and_begins_with_the_most_common_ones(frontend):
    groups = grouped(FRONTENDS[frontend])
    assert set().union(*groups.values()) == {*texts_of(FRONTENDS[frontend])}
    assert {*groups.get("Args", ())} <= {*GROUPS["Args"]}, "an option has no group"
    if frontend == "mpqueue.Loader":
        assert [*groups["Args"]] == ["batch_size", "shuffle", "workers", "collate", "shard"]


def test_a_user_subclass_shows_its_own_arguments():
    class Own(mpqueue.Server):
        def __init__(self, folder):
            """Serve a folder."""

    assert list(inspect.signature(Own).parameters) == ["folder"]


def test_every_argument_has_its_own_description():
    assert undescribed() == ([], [])


@pytest.mark.sample(20)
@pytest.mark.parametrize("example", [example for name, example in EXAMPLES if name is None], ids=str)
def test_a_docstring_example_runs_unchanged(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "example.py"
    script.write_text(example.text, "utf-8")  # `cached` reads the source
    exec(compile(example.text, script, "exec"), {"__name__": "example"})


@pytest.mark.parametrize(
    ("launcher", "example"), [pair for pair in EXAMPLES if pair[0]], indirect=["launcher"], ids=str
)
def test_a_docstring_example_with_a_framework_runs_unchanged(launcher, example, tmp_path):
    if framework_of(example) in {"keras", "jax"} and importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    run_example(example.text, tmp_path, launcher)
