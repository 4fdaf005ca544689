"""Requirements of a stage for the stages before it, and values derived from them when it is added."""

from collections.abc import Mapping
from typing import Any

from mpqueue.dataset.caching.caches import Cache, FolderCache, MemoryCache
from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.arguments import check_file_name, check_folder, check_function, check_room
from mpqueue.dataset.running.as_source import stream_stage
from mpqueue.dataset.transformations.cache import CacheNode
from mpqueue.dataset.transformations.shuffle import ShuffleNode
from mpqueue.dataset.transformations.shuffle_blocks import BlockShuffleNode
from mpqueue.dataset.transformations.take_skip import SkipNode, TakeNode
from mpqueue.plan.options.checks import ragged_choice
from mpqueue.system.log import warn
from mpqueue.system.user_code.exception_texts import named_text_of


def require_finite(root: nodes.StageNode, stage: str, remedy: str = "") -> None:
    """Raise a `ValueError` for a stream or an endless dataset; ``remedy`` precedes the general remedy."""
    found = stream_stage(root)
    if found is not None:
        raise ValueError(
            f"{stage}() needs an indexed dataset, and {found.named()} makes this one a stream: {remedy}put "
            f"{stage}() before that stage"
        )
    if nodes.length_when_described(root) is None and root.length() is None:
        raise ValueError(f"{stage}() needs a finite dataset, and this one is endless: put it before repeat()")


def require_one_order(root: nodes.StageNode, stage: str) -> None:
    """Raise a `ValueError` if a previous stage draws another order in each epoch."""
    drawing = root.facts.drawing
    if drawing is not None:
        raise ValueError(
            f"{stage}: {drawing.named()} returns another order in each epoch: put it after {stage}, or use "
            "concatenate in place of mix"
        )


def collate_of(root: nodes.StageNode, stage: str, collate: Any) -> Any:
    """Return the ``collate`` of a stage that makes batches.

    Raises:
        TypeError: It does not accept one argument.
        ValueError: It is another string; or it is not a function, and the elements are already batches.
    """
    if isinstance(collate, str | Mapping):
        ragged_choice(f"{stage}: collate", collate)
    elif collate is not None:
        check_function(stage, "collate", collate, "a list of elements")
        return collate
    # Two batch stages are usually a mistake, which would only show in the model, as an additional axis.
    batching = root.facts.batching
    if batching is not None:
        raise ValueError(
            f"{stage} takes single samples, and {batching.named()} already makes batches: remove one of the two, "
            f"split batches with flat_map(function), or combine them with {stage}(..., collate=function)"
        )
    return collate


def cache_of(root: nodes.StageNode, folder: Any, name: Any, max_bytes: Any) -> Cache:
    """Return the cache of a stage."""
    path = None if folder is None else check_folder("cache", folder)
    most = check_room("cache", max_bytes, path)
    _warn_of_one_order(root)
    if path is None:
        if name is not None:
            raise ValueError(f"cache: name={name!r} needs a folder: cache(folder, name=...)")
        return MemoryCache(most)
    if name is not None:
        return FolderCache(path, check_file_name("cache", "name", name), most)
    from mpqueue.dataset.description.fingerprint import fingerprint_of  # its imports take 10 ms

    try:
        key = fingerprint_of(root)
    except Exception as error:
        raise TypeError(
            f"cache: no name can be derived from the previous stages ({named_text_of(error)}): pass one, "
            "cache(folder, name=...), and change it whenever the samples or functions change"
        ) from error
    return FolderCache(path, key, most)


def _warn_of_one_order(root: nodes.StageNode) -> None:
    """Warn if a cache keeps the order of a shuffle, unless the shuffle selects elements."""
    node = root
    # After another cache, the order is already kept, and that stage has warned.
    while isinstance(node, nodes.LinkNode) and not isinstance(node, TakeNode | SkipNode | CacheNode):
        if isinstance(node, ShuffleNode | BlockShuffleNode):
            stage = nodes.Numbered(node.stage_index, node)
            warn(
                f"cache() follows {stage.named()} so all epochs have the order of the first one: put cache() before it",
                "Streams",
                "Caches",
            )
            return
        node = node.input
