"""Blocks held by views: the lifetime of a hold."""

import numpy as np
import pytest

from mpqueue.tf1.queues.arena import Arena, class_for
from mpqueue.tf1.queues.block_pool import LEAST_BYTES, MAX_HELD, Holds
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.spec import ElementSpec

CLASS = class_for(LEAST_BYTES)


@pytest.fixture
def arena():
    arena = Arena()
    yield arena
    arena.close()


def test_block_is_held_while_any_view_exists(arena):
    holds, (token,) = Holds(arena), arena.take(CLASS, 1)
    base = holds.base(token)
    view = base[10:20][::2]
    del base
    assert not holds.ended
    assert holds.num_live == 1
    del view
    holds.collect()
    assert holds.num_live == arena.num_used == 0


def test_number_of_held_blocks_is_bounded(arena):
    holds, tokens = Holds(arena), arena.take(CLASS, MAX_HELD + 1)
    bases = [holds.base(token) for token in tokens]
    assert bases.pop() is None
    assert all(base is not None for base in bases)
    bases.pop()  # deleting a view frees a hold at once
    assert holds.base(tokens[-1]) is not None


def test_no_block_is_held_after_a_shortage(arena):
    holds, (token,) = Holds(arena), arena.take(CLASS, 1)
    arena.was_short = True
    assert holds.base(token) is None


def test_forgotten_block_is_not_freed_by_collect(arena):
    holds, (token,) = Holds(arena), arena.take(CLASS, 1)
    base = holds.base(token)
    holds.forget(token)
    again = holds.base(token)
    del base
    holds.collect()
    assert holds.num_live == arena.num_used == 1
    del again
    holds.collect()
    assert holds.num_live == arena.num_used == 0


def test_element_without_views_remains_a_token(arena, monkeypatch):
    spec = ElementSpec(["uint8", "string"])
    holds, codec = Holds(arena), BlockCodec(spec, arena.segment)
    storage = SharedStorage(spec, codec, has_plain=False, holds=holds)
    text = np.array([b"a"], object)
    size_class, pieces = codec.plan([np.zeros(LEAST_BYTES, np.uint8), text])
    tokens = arena.take(size_class, 1)
    codec.write(tokens[0], pieces)

    def interrupt(_token):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage.columns[1], "get", interrupt)
        with pytest.raises(KeyboardInterrupt):
            storage.get_one(tokens)
    assert len(tokens) == 1
    assert holds.num_live == 0
    image, texts = storage.get_one(tokens)
    assert not tokens
    assert image.nbytes == LEAST_BYTES
    assert texts.tolist() == [b"a"]
