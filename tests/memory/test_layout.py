"""The numbers of specs, and the pickles of objects; `test_any_tree` proves the rest of the layout."""

import enum
import marshal
import pickle
from unittest.mock import Mock

import numpy as np
import pytest

from mpqueue.memory import layout
from mpqueue.memory.layout import WITHOUT_ID, NodeKind, SpecIds, load_spec, pickle_objects

A = (NodeKind.ARRAY, np.dtype("f4"), 1, False)


def local_key():
    """Return a key of a class that only cloudpickle can pickle."""

    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            return type(other).__name__ == "Key"

    return Key()


def test_spec_is_sent_once_and_numbered():
    numbers = SpecIds()
    first, second = (NodeKind.LIST, A), (NodeKind.TUPLE, A)
    number, encoded = numbers.id_of(first)
    assert (number, load_spec(encoded)) == (0, first)
    assert numbers.id_of(second)[0] == 1
    assert numbers.id_of(first) == (0, None)
    assert numbers.id_of(second) == (1, None)


def test_forgotten_spec_is_sent_again_with_its_number():
    numbers = SpecIds()
    numbers.id_of(A)
    numbers.forget(A)
    number, encoded = numbers.id_of(A)
    assert number == 0
    assert encoded is not None


@pytest.mark.parametrize("num_before", [0, 512])
def test_keys_of_local_class_are_pickled_by_value(num_before):
    numbers = SpecIds()
    for key in range(num_before):
        numbers.id_of((NodeKind.DICT, ((key,), (int,)), A))
    key = local_key()
    spec = (NodeKind.DICT, ((key,), (type(key),)), A)
    number, encoded = numbers.id_of(spec)
    assert number == (WITHOUT_ID if num_before else 0)
    assert load_spec(encoded)[1][0] == (key,)


def test_string_too_long_for_marshal_is_pickled():
    """From 2 GiB on. The bytes are zeros that are never written nor read here."""
    long = bytes(1 << 31)
    with pytest.raises(ValueError, match="unmarshallable"):
        marshal.dumps([long])
    dumps = Mock(return_value=b"pickled")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layout.pickle, "dumps", dumps)
        assert pickle_objects([long, "a"]) == (b"pickled", [], False)
    assert [call.args[0] for call in dumps.call_args_list] == [[long, "a"]]


class Word(str):  # noqa: SLOT000
    """A subclass of `str`."""


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize("other", [np.float64(1), np.str_("a"), bytearray(b"a"), Word("a"), Number.ONE])
def test_subclasses_of_strings_and_numbers_keep_their_class(other):
    """marshal would write it as a plain string, or write the bytes of its buffer."""
    for objects in ([other], [other, "a"], ["a", other]):
        pickled = pickle_objects(objects)
        assert not pickled.is_marshalled
        found = pickle.loads(pickled.data, buffers=pickled.buffers)
        assert found == objects
        assert [*map(type, found)] == [*map(type, objects)]
