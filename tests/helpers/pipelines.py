"""Lanes of datasets in this thread, and random pipelines with the elements that the model defines for their lanes."""

import itertools
import pickle
import re

from model import drawing, functions, pipelines
from model.elements import Failed, Run
from model.functions import Kept
from model.orders import Epochs
from model.program import plain

import mpqueue
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.worker import context
from mpqueue.worker.runners.lanes import LaneRun
from mpqueue.worker.runners.runner import StreamEnd

__all__ = [
    "Failed",
    "Kept",
    "drawn",
    "expected",
    "lane_of",
    "made",
    "opened",
    "outcomes_of",
    "reopened",
    "rest_of",
    "run_of",
]


def outcomes_of(take, count=None):
    """Return the results of at most ``count`` calls of `take`, with errors in their places, until it ends."""
    found = []
    while count is None or len(found) < count:
        try:
            found.append(take())
        except (StreamEnd, StopIteration):
            break
        except Exception as error:
            found.append(Failed(type(error).__name__, str(error)))
    return found


def run_of(lane=0, num_lanes=1, seed=0, epoch=0, **options):
    """Return the `LaneRun` of a lane in this thread."""
    context.enter_thread(context.WorkerInfo(0, 1, seed, lane, num_lanes), is_seed_given=True)
    return LaneRun(lane, num_lanes, seed, epoch, context.begin_batch, **options)


def opened(dataset, *args, **options):
    """Open a lane of a dataset in this thread."""
    return DatasetLanes(dataset.root).open_lane(run_of(*args, **options))


def reopened(dataset, before, *args, **options):
    """Open a lane at the position that ``before`` has reached."""
    return opened(dataset, *args, state=pickle.loads(pickle.dumps(before.save())), **options)


def rest_of(lane, count=None):
    """Return at most ``count`` of the remaining elements of a lane, with errors in their places."""
    return outcomes_of(lane.next, count)


# -- Random pipelines


def drawn(chosen, most, **options):
    """Return a random pipeline of `model.drawing` as plain data."""
    return drawing.pipeline(chosen, "r", most, **options).data


def made(data):
    """Return the dataset of a pipeline. Its caches are in memory."""
    code = re.sub(r"\.cache\(folder[^)]*\)", ".cache()", pipelines.code_of(data))
    return eval(code, vars(functions) | vars(pipelines) | {"Dataset": mpqueue.Dataset})


def expected(lane, count):
    """Return the next elements of a lane of the model (`model.orders.Epochs`), with errors in their places."""
    found = itertools.islice(iter(lane.next, None), count)
    return [one if isinstance(one, Failed) else plain(one.value()) for one in found]


def lane_of(data, lane=0, num_lanes=1, seed=0, epoch=0, *, endless=False):
    """Return a lane of the model."""
    return Epochs(pipelines.stage_of(data), Run(seed, epoch, None, lane, num_lanes), endless)
