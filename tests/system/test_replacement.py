"""`Replacement`: attributes of other libraries that are replaced while they are needed."""

import types

import pytest
from helpers.finalizers import end_interrupted
from helpers.injected_exceptions import Struck, each_strike
from helpers.signal_handlers import raising

from mpqueue.system.user_code.replacement import Replacement


@pytest.fixture
def library():
    return types.SimpleNamespace(make=lambda: "theirs")


def _replace(library, check=lambda _: None):
    replacement = Replacement("a.library", lambda: library, "make", lambda: make(), check)

    def make():
        return "ours" if replacement.num_installations else f"ours, then {replacement.replaced()}"

    return replacement


def test_unsupported_library_is_unchanged(library):
    theirs, replacement = library.make, _replace(library, raising(ImportError("it does not fit")))
    with pytest.raises(ImportError, match="it does not fit"):
        replacement.install()
    assert library.make is theirs
    assert replacement.num_installations == 0


def test_later_replacement_by_another_program_is_kept_and_a_new_one_does_not_call_itself(library):
    replacement = _replace(library)
    with replacement.install():
        inner = library.make
        library.make = lambda: f"wrapped {inner()}"
        assert library.make() == "wrapped ours"
    assert library.make() == "wrapped ours, then theirs"
    with replacement.install():
        assert library.make() == "wrapped ours"
    assert library.make() == "wrapped ours, then theirs"


def test_attribute_is_replaced_again_after_another_program_restored_it(library):
    theirs, replacement = library.make, _replace(library)
    with replacement.install():
        library.make = theirs
    with replacement.install():
        assert library.make() == "ours"
    assert library.make is theirs


def test_attributes_are_replaced_until_last_holder(library):
    theirs, library.here = library.make, "theirs"
    replacement = Replacement("a.library", lambda: library, "make", print, beside={"here": "ours", "new": "ours"})
    replacement.hold()
    replacement.hold()
    replacement.let_go()
    assert library.make is not theirs
    assert (library.here, library.new) == ("ours", "ours")
    replacement.let_go()
    assert (library.make, library.here) == (theirs, "theirs")
    assert not hasattr(library, "new")


def test_other_attributes_changed_by_another_program_are_kept(library):
    replacement = Replacement("a.library", lambda: library, "make", None, beside={"here": "ours"})
    replacement.hold()
    library.here = "another's"
    replacement.let_go()
    assert library.here == "another's"


def test_interrupted_installation_replaces_nothing(library):
    """It has no owner that could undo it."""
    theirs = library.make
    for after, strike in each_strike(least=10):
        replacement, installed = _replace(library), None
        try:
            with strike:
                installed = replacement.install()
        except Struck:
            assert library.make is theirs, after
        else:
            installed.__exit__()
        assert not replacement.num_installations, after


def test_end_of_an_installation_that_a_signal_interrupts_is_complete(library):
    theirs = library.make
    for after, strike in each_strike(least=4):
        replacement = _replace(library)
        installed = replacement.install()
        try:
            with strike:
                installed.__exit__()
        except Struck:
            installed.__exit__()
        assert library.make is theirs, after
        assert not replacement.num_installations, after


class Holder:
    """An object."""


def test_interrupt_while_a_holder_is_collected_is_raised_after_the_attribute_is_restored(library, monkeypatch):
    theirs, replacement, holders = library.make, _replace(library), [Holder()]
    replacement.hold_for(holders[0])
    assert library.make is not theirs
    end_interrupted(monkeypatch, replacement, "_find", holders.clear)
    assert library.make is theirs
