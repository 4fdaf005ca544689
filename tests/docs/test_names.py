"""Each name is in the module that the documentation's table lists, in both APIs."""

import functools
import re

from helpers.pages import DOCS

import mpqueue
import mpqueue.compat.v1 as tf
from mpqueue.tf1 import root

NAMES = re.findall(r"`((?:mpqueue|tf)\.[\w.]+)`", (DOCS / "names.md").read_text("utf-8"))
KERAS = {f"mpqueue.{name}" for name in ("Sequence", "SequenceEnqueuer", "OrderedEnqueuer", "GeneratorEnqueuer")}
OURS = KERAS | {
    "mpqueue.compat.v1",
    "mpqueue.train",
    *(f"mpqueue.train.{name}" for name in ("connect", "Source", "run", "get_queue_runners")),
}


def test_each_name_is_in_the_module_that_the_table_lists():
    for name in set(NAMES):
        module, *path = name.split(".")
        assert functools.reduce(getattr, path, {"mpqueue": mpqueue, "tf": tf}[module]) is not None


def test_the_deferred_api_has_each_name_in_the_same_module():
    for name in {name for name in NAMES if name.startswith("mpqueue.")} - OURS:
        path = name.split(".")[1:]
        in_tf = path[0] == "train" and path[1] in root.__all__ and not hasattr(tf.train, path[1])
        assert functools.reduce(getattr, path[1:] if in_tf else path, tf) is not None
