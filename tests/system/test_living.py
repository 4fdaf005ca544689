"""Sets of what lives, which any thread may add to."""

from helpers.meanwhile import meanwhile

from mpqueue.system.living import Living


class Thing:
    """Something."""


def test_it_has_what_lives():
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


def test_what_comes_while_it_is_gone_through_changes_nothing():
    kept, living = [Thing()], Living()
    living.add(kept[0])

    def add():
        kept.append(Thing())
        living.add(kept[-1])

    found = meanwhile(add, lambda: list(living))
    assert kept[0] in found
    assert len(kept) > 1
