# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from collections.abc import Sequence
from mpqueue.compat.v1.train import coordinator as coordinator
from mpqueue.compat.v1.train import queue_runner as queue_runner
from mpqueue.tf1.compat.functions.queues import FIFOQueue
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.train.cluster import ClusterDef as ClusterDef
from mpqueue.tf1.compat.train.cluster import ClusterSpec as ClusterSpec
from mpqueue.tf1.compat.train.cluster import JobDef as JobDef
from mpqueue.tf1.compat.train.cluster import ServerDef as ServerDef
from mpqueue.tf1.compat.train.hooks import SessionRunArgs as SessionRunArgs
from mpqueue.tf1.compat.train.hooks import SessionRunContext as SessionRunContext
from mpqueue.tf1.compat.train.hooks import SessionRunHook as SessionRunHook
from mpqueue.tf1.compat.train.hooks import SessionRunValues as SessionRunValues
from mpqueue.tf1.compat.train.hooks import StopAtStepHook as StopAtStepHook
from mpqueue.tf1.compat.train.monitored import MonitoredSession as MonitoredSession
from mpqueue.tf1.compat.train.monitored import SingularMonitoredSession as SingularMonitoredSession
from mpqueue.tf1.compat.train.producers import limit_epochs as limit_epochs
from mpqueue.tf1.compat.train.producers import match_filenames_once as match_filenames_once
from mpqueue.tf1.compat.train.runners import QueueRunner as QueueRunner
from mpqueue.tf1.compat.train.runners import add_queue_runner as add_queue_runner
from mpqueue.tf1.compat.train.scaffold import ChiefSessionCreator as ChiefSessionCreator
from mpqueue.tf1.compat.train.scaffold import Scaffold as Scaffold
from mpqueue.tf1.compat.train.server import Server as Server
from mpqueue.tf1.compat.train.steps import assert_global_step as assert_global_step
from mpqueue.tf1.compat.train.steps import create_global_step as create_global_step
from mpqueue.tf1.compat.train.steps import get_global_step as get_global_step
from mpqueue.tf1.compat.train.steps import get_or_create_global_step as get_or_create_global_step
from mpqueue.tf1.compat.train.steps import global_step as global_step
from mpqueue.tf1.compat.train.supervisor import Supervisor as Supervisor
from mpqueue.tf1.coordinator import Coordinator as Coordinator
from mpqueue.tf1.parsing.example import BytesList as BytesList
from mpqueue.tf1.parsing.example import Example as Example
from mpqueue.tf1.parsing.example import Feature as Feature
from mpqueue.tf1.parsing.example import FeatureList as FeatureList
from mpqueue.tf1.parsing.example import FeatureLists as FeatureLists
from mpqueue.tf1.parsing.example import Features as Features
from mpqueue.tf1.parsing.example import FloatList as FloatList
from mpqueue.tf1.parsing.example import Int64List as Int64List
from mpqueue.tf1.parsing.example import SequenceExample as SequenceExample
from mpqueue.tf1.train.looper import LooperThread as LooperThread
from mpqueue.tf1.train.queue_runner_def import QueueRunnerDef as QueueRunnerDef
from threading import Thread
from typing import Any

__all__ = [
    "BytesList", "ChiefSessionCreator", "ClusterDef", "ClusterSpec", "Coordinator", "Example", "Feature", "FeatureList",
    "FeatureLists", "Features", "FloatList", "Int64List", "JobDef", "LooperThread", "MonitoredSession",
    "MonitoredTrainingSession", "QueueRunner", "QueueRunnerDef", "Scaffold", "SequenceExample", "Server", "ServerDef",
    "SessionRunArgs", "SessionRunContext", "SessionRunHook", "SessionRunValues", "SingularMonitoredSession",
    "StopAtStepHook", "Supervisor", "add_queue_runner", "assert_global_step", "batch", "batch_join", "coordinator",
    "create_global_step", "get_global_step", "get_or_create_global_step", "global_step", "input_producer",
    "limit_epochs", "match_filenames_once", "queue_runner", "range_input_producer", "shuffle_batch",
    "shuffle_batch_join", "slice_input_producer", "start_queue_runners", "string_input_producer",
]  # fmt: skip

def batch(
    tensors: Any,
    batch_size: Any,
    num_threads: int = 1,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any: ...
def batch_join(
    tensors_list: Sequence[Any],
    batch_size: Any,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any: ...
def shuffle_batch(
    tensors: Any,
    batch_size: Any,
    capacity: int,
    min_after_dequeue: int,
    num_threads: int = 1,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any: ...
def shuffle_batch_join(
    tensors_list: Sequence[Any],
    batch_size: Any,
    capacity: int,
    min_after_dequeue: int,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any: ...
def MonitoredTrainingSession(
    master: str = "",
    is_chief: bool = True,
    checkpoint_dir: Any = None,
    scaffold: Scaffold | None = None,
    hooks: Sequence[SessionRunHook] | None = None,
    chief_only_hooks: Sequence[SessionRunHook] | None = None,
    save_checkpoint_secs: Any = None,
    save_summaries_steps: Any = None,
    save_summaries_secs: Any = None,
    config: Any = None,
    stop_grace_period_secs: int = 120,
    log_step_count_steps: Any = 100,
    max_wait_secs: Any = 7200,
    save_checkpoint_steps: Any = None,
    summary_dir: Any = None,
    save_graph_def: Any = True,
) -> MonitoredSession: ...
def input_producer(
    input_tensor: Any,
    element_shape: Any = None,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    summary_name: str | None = None,
    name: str | None = None,
    cancel_op: Any = None,
) -> FIFOQueue: ...
def range_input_producer(
    limit: Any,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> FIFOQueue: ...
def slice_input_producer(
    tensor_list: Sequence[Any],
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> list[Tensor]: ...
def string_input_producer(
    string_tensor: Any,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
    cancel_op: Any = None,
) -> FIFOQueue: ...
def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = "queue_runners",
) -> list[Thread]: ...
