"""Sets of weak references, which any thread may add to."""

from helpers.meanwhile import meanwhile

from mpqueue.system.living import Living


class Thing:
    """An object that supports weak references."""


def test_set_contains_live_objects():
    one, other, living = Thing(), Thing(), Living()
    assert not living
    for thing in (one, other, one):
        living.add(thing)
    assert one in living
    assert Thing() not in living
    assert len(list(living)) == 2
    del thing, one
    assert list(living) == [other]
    assert living
    living.clear()
    assert not living


def test_objects_added_during_iteration_are_ignored():
    kept, living = [Thing()], Living()
    living.add(kept[0])

    def add():
        kept.append(Thing())
        living.add(kept[-1])

    found = meanwhile(add, lambda: list(living))
    assert kept[0] in found
    assert len(kept) > 1
