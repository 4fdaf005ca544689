"""The names of tf.train, eager."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqueue.parsing.example import BytesList as BytesList
    from mpqueue.parsing.example import Example as Example
    from mpqueue.parsing.example import Feature as Feature
    from mpqueue.parsing.example import FeatureList as FeatureList
    from mpqueue.parsing.example import FeatureLists as FeatureLists
    from mpqueue.parsing.example import Features as Features
    from mpqueue.parsing.example import FloatList as FloatList
    from mpqueue.parsing.example import Int64List as Int64List
    from mpqueue.parsing.example import SequenceExample as SequenceExample

# They need protobuf, extra [tfrecord]: loaded on first use.
_MESSAGES = (
    "BytesList",
    "Example",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FloatList",
    "Int64List",
    "SequenceExample",
)

__all__ = [
    "BytesList",
    "Example",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FloatList",
    "Int64List",
    "SequenceExample",
]


def __getattr__(name: str) -> Any:
    if name not in _MESSAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("mpqueue.parsing.example"), name)
