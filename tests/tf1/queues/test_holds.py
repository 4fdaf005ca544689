"""Blocks held by views: the lifetime of a hold."""

import numpy as np
import pytest

from mpqueue.tf1.queues.arena import Arena, class_for
from mpqueue.tf1.queues.block_pool import LEAST_BYTES, Holds
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.spec import ElementSpec

CLASS = class_for(LEAST_BYTES)


@pytest.fixture
def arena():
    arena = Arena()
    yield arena
    arena.close()


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
