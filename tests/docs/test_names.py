"""The deferred API has each name of the eager one; statistics have the fields that pages name."""

import dataclasses
import inspect
import re

from helpers.doc_pages import PAGES, name_of, prose

import mpqueue
import mpqueue.compat.v1 as tf
from mpqueue.__main__ import COMMANDS
from mpqueue.plan.options.options import LoaderOptions, ServerOptions
from mpqueue.service.serving import reports
from mpqueue.telemetry import stats, worker_stats
from mpqueue.tf1 import root

OURS = {"Source", "run", "get_queue_runners"}  # of `mpqueue.train`; TensorFlow has no such functions


def test_the_deferred_api_has_each_name_of_the_eager_one_in_the_same_module():
    for name in {*mpqueue.train.__all__} - OURS:
        assert hasattr(tf.train, name) or (name in root.__all__ and hasattr(tf, name)), name
    for name in mpqueue.python_io.__all__:
        assert hasattr(tf.python_io, name)


def names_of_statistics():
    """Return the names of all fields and properties of the statistics of loaders, servers and consumers."""
    kinds = [
        kind for module in (stats, worker_stats, reports) for kind in vars(module).values() if inspect.isclass(kind)
    ]
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
