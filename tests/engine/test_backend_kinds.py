"""The kinds of backends: each is named in all places where users meet it, and its module makes a whole backend."""

import inspect
from importlib import import_module
from typing import get_args, get_type_hints

import pytest

import mpqueue
import mpqueue.keras
from mpqueue.engine.backend import Backend
from mpqueue.engine.backend_kinds import _KINDS, BackendName, kind_of

FACES = [mpqueue.Loader, mpqueue.OrderedEnqueuer, mpqueue.GeneratorEnqueuer, mpqueue.keras.accelerate]
# What the pipeline asks of a backend.
ASKED = {*get_type_hints(Backend), *(name for name in vars(Backend) if not name.startswith("_"))}


def test_each_kind_is_in_the_type_of_the_names_and_in_the_error():
    assert get_args(BackendName) == tuple(_KINDS)
    with pytest.raises(ValueError, match="backend must be") as raised:
        kind_of("no such")
    assert [name for name in _KINDS if f'"{name}"' not in str(raised.value)] == []


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_each_kind_is_named_where_a_face_describes_its_backend(face):
    (said,) = [line for line in inspect.getdoc(face).splitlines() if line.startswith("    backend: ")]
    assert [name for name in _KINDS if f'"{name}"' not in said] == []


@pytest.mark.parametrize("name", _KINDS)
def test_what_a_module_says_that_it_makes_has_all_that_the_pipeline_asks_for(name):
    """mypy compares where it says `Backend`; of a class the names are compared here."""
    make_backend = import_module(kind_of(name).maker).make_backend
    made = get_type_hints(make_backend)["return"]
    assert {"chunk", "pump", "stop"} < ASKED
    if made is not Backend:
        source = "".join(inspect.getsource(base) for base in made.__mro__[:-1])
        assert [name for name in sorted(ASKED) if name not in source] == []
