"""Orders that Keras's ImageDataGenerator iterators draw in their first item: they are drawn in the trainer instead.

Each worker has a copy of the source, and would draw an order of its own, so that some items came twice and others not
at all. `index_array` of these iterators is None until `_set_index_array`. Orders of other sources are noticed by the
workers; see `mpqueue.worker.order_watch`.
"""

from typing import Any

_KNOWN = (("index_array", "_set_index_array"), ("index_array", "__set_index_array__"))


def draw_lazy_order(source: Any) -> None:
    """Have a source draw its order now, in the trainer, before the first item, if it is one of Keras's iterators."""
    for attribute, method in _KNOWN:
        if getattr(source, attribute, 0) is None and hasattr(source, method):
            getattr(source, method)()
            return
