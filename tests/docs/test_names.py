"""Each name is in the module that the documentation's table lists, in both APIs; statistics have the named fields."""

import dataclasses
import functools
import inspect
import re

from helpers.doc_pages import DOCS, PAGES, name_of, prose

import mpqueue
import mpqueue.compat.v1 as tf
from mpqueue.__main__ import COMMANDS
from mpqueue.plan.options.options import LoaderOptions, ServerOptions
from mpqueue.service.serving import reports
from mpqueue.telemetry import stats
from mpqueue.tf1 import root

TABLE = (DOCS / "tensorflow-1/moving.md").read_text("utf-8").split("\n## Names\n")[1]
NAMES = re.findall(r"`((?:mpqueue|tf)\.[\w.]+)`", TABLE)
KERAS = {f"mpqueue.{name}" for name in ("Sequence", "SequenceEnqueuer", "OrderedEnqueuer", "GeneratorEnqueuer")}
OURS = KERAS | {
    "mpqueue.compat.v1",
    "mpqueue.train",
    *(f"mpqueue.train.{name}" for name in ("Source", "run", "get_queue_runners")),
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


def names_of_statistics():
    """Return the names of all fields and properties of the statistics of loaders, servers and consumers."""
    kinds = [kind for module in (stats, reports) for kind in vars(module).values() if inspect.isclass(kind)]
    fields = {field.name for kind in filter(dataclasses.is_dataclass, kinds) for field in dataclasses.fields(kind)}
    return fields.union(*map(dir, kinds))


def test_statistics_have_the_names_that_sentences_about_them_contain():
    """``statistics().deaths`` in any sentence, and `deaths` in a sentence that names ``statistics()``."""
    known, found = names_of_statistics(), {}
    others = {*LoaderOptions.__annotations__, *ServerOptions.__annotations__, *COMMANDS}
    assert {"deaths", "nodes", "p99_s", "batches_per_s", "recalled"} <= known
    for page in PAGES:
        for sentence in re.split(r"(?<=\.)\s+|\n\n|\n(?=[-|])", prose(page)):
            chains = re.findall(r"statistics\(\)((?:\.[a-z_0-9]+)+)", sentence)
            named = set("".join(chains).split(".")[1:])
            if "statistics()" in sentence:
                named |= {*re.findall(r"`([a-z_0-9]+)`", sentence)} - others
            if named - known:
                found[name_of(page), sentence] = named - known
    assert found == {}
