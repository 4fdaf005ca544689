"""`Replacement`: an attribute of another library that is ours as long as somebody needs it."""

import types

import pytest

from mpqueue.system.replacement import Replacement


@pytest.fixture(name="library")
def _library():
    return types.SimpleNamespace(make=lambda: "theirs")


def _replace(library, check=lambda _: None):
    replacement = Replacement("a.library", lambda: library, "make", lambda: make(), check)

    def make():
        return "ours" if replacement.num_installations else f"ours, then {replacement.replaced()}"

    return replacement


def test_it_stands_until_the_last_holder_lets_go(library):
    theirs, replacement = library.make, _replace(library)
    replacement.hold()
    replacement.hold()
    replacement.let_go()
    assert library.make is not theirs
    replacement.let_go()
    assert library.make is theirs


def test_an_installation_is_undone_once(library):
    theirs, replacement = library.make, _replace(library)
    outer = replacement.install()
    with replacement.install() as inner:
        assert repr(inner) == "<a.library.install(), done>"
    assert repr(inner) == "<a.library.install(), undone>"
    inner.__exit__()
    assert library.make() == "ours"
    with outer:
        pass
    assert library.make is theirs


def test_a_holder_is_no_installation(library):
    replacement = _replace(library)
    replacement.hold()
    assert library.make() == "ours, then theirs"
    with replacement.install():
        assert library.make() == "ours"
    assert library.make() == "ours, then theirs"


def test_a_library_that_does_not_fit_stays_as_it_is(library):
    def check(_):
        raise ImportError("it does not fit")

    theirs, replacement = library.make, _replace(library, check)
    with pytest.raises(ImportError, match="it does not fit"):
        replacement.install()
    assert library.make is theirs
    assert replacement.num_installations == 0


def test_what_somebody_else_puts_over_it_stays_and_ours_steps_aside(library):
    replacement = _replace(library)
    with replacement.install():
        inner = library.make
        library.make = lambda: f"wrapped {inner()}"
        assert library.make() == "wrapped ours"
    assert library.make() == "wrapped ours, then theirs"


def test_installed_again_beneath_what_somebody_else_has_put_over_it_it_does_not_call_itself(library):
    replacement = _replace(library)
    with replacement.install():
        inner = library.make
        library.make = lambda: f"wrapped {inner()}"
    with replacement.install():
        assert library.make() == "wrapped ours"
    assert library.make() == "wrapped ours, then theirs"


def test_it_stands_again_after_somebody_else_has_put_the_librarys_own_back(library):
    theirs, replacement = library.make, _replace(library)
    with replacement.install():
        library.make = theirs
    with replacement.install():
        assert library.make() == "ours"
    assert library.make is theirs


def test_what_stands_beside_it_goes_with_it_and_what_was_there_comes_back(library):
    library.here = "theirs"
    replacement = Replacement("a.library", lambda: library, "make", None, beside={"here": "ours", "new": "ours"})
    replacement.hold()
    replacement.hold()
    replacement.let_go()
    assert (library.here, library.new) == ("ours", "ours")
    replacement.let_go()
    assert library.here == "theirs"
    assert not hasattr(library, "new")


def test_what_another_program_has_put_beside_it_stays(library):
    replacement = Replacement("a.library", lambda: library, "make", None, beside={"here": "ours"})
    replacement.hold()
    library.here = "another's"
    replacement.let_go()
    assert library.here == "another's"
