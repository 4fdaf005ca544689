"""`contents`: a breadth-first search of the contents of an object, within bounds."""

import functools

import pytest

from mpqueue.system.contents import contents


class Wanted:
    pass


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def method(self):
        pass


def found(root, **options):
    return [(one.path, one.shown) for one in contents(root, lambda value: isinstance(value, Wanted), **options)]


def closed_over(value):
    return lambda: value


@pytest.mark.parametrize(
    ("root", "path", "shown"),
    [
        (Wanted(), "", ""),
        (Holder(a=Wanted()), "a", ".a"),
        ([1, Wanted()], "1", "[1]"),
        ({"x": 0, "y": (Wanted(),)}, "1.0", "['y'][0]"),
        (Holder(a=Wanted()).method, "self.a", ".__self__.a"),
        (functools.partial(print, 1, key=Wanted()), "keywords.0", ".keywords['key']"),
        (closed_over(Wanted()), "value", "<value>"),
        (Holder(a=Holder(b=[Wanted()])), "a.b.0", ".a.b[0]"),
    ],
    ids=["itself", "attribute", "list", "dict", "method", "partial", "closure", "deep"],
)
def test_contents_are_found_with_their_path(root, path, shown):
    assert found(root) == [(path, shown)]


def test_reference_cycles_are_searched_once():
    circle = Holder()
    circle.itself = circle
    assert found(circle) == []


def test_unassigned_closure_variable_is_skipped():
    def outer():
        kept = Wanted()

        def inner():
            return kept, later

        inner_now = found(inner)
        later = 1
        return inner_now, later

    assert outer() == ([("kept", "<kept>")], 1)
