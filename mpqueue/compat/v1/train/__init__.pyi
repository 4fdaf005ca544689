# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.train.batching import batch as batch
from mpqueue.compat.train.batching import batch_join as batch_join
from mpqueue.compat.train.batching import shuffle_batch as shuffle_batch
from mpqueue.compat.train.batching import shuffle_batch_join as shuffle_batch_join
from mpqueue.compat.train.epochs import limit_epochs as limit_epochs
from mpqueue.compat.train.epochs import match_filenames_once as match_filenames_once
from mpqueue.compat.train.hooks import SessionRunArgs as SessionRunArgs
from mpqueue.compat.train.hooks import SessionRunContext as SessionRunContext
from mpqueue.compat.train.hooks import SessionRunHook as SessionRunHook
from mpqueue.compat.train.hooks import SessionRunValues as SessionRunValues
from mpqueue.compat.train.hooks import StopAtStepHook as StopAtStepHook
from mpqueue.compat.train.monitored import MonitoredSession as MonitoredSession
from mpqueue.compat.train.monitored import MonitoredTrainingSession as MonitoredTrainingSession
from mpqueue.compat.train.monitored import SingularMonitoredSession as SingularMonitoredSession
from mpqueue.compat.train.producers import input_producer as input_producer
from mpqueue.compat.train.producers import range_input_producer as range_input_producer
from mpqueue.compat.train.producers import slice_input_producer as slice_input_producer
from mpqueue.compat.train.producers import string_input_producer as string_input_producer
from mpqueue.compat.train.runners import QueueRunner as QueueRunner
from mpqueue.compat.train.runners import add_queue_runner as add_queue_runner
from mpqueue.compat.train.runners import start_queue_runners as start_queue_runners
from mpqueue.compat.train.scaffold import ChiefSessionCreator as ChiefSessionCreator
from mpqueue.compat.train.scaffold import Scaffold as Scaffold
from mpqueue.compat.train.steps import assert_global_step as assert_global_step
from mpqueue.compat.train.steps import create_global_step as create_global_step
from mpqueue.compat.train.steps import get_global_step as get_global_step
from mpqueue.compat.train.steps import get_or_create_global_step as get_or_create_global_step
from mpqueue.compat.train.steps import global_step as global_step
from mpqueue.compat.train.supervisor import Supervisor as Supervisor
from mpqueue.compat.v1.train import coordinator as coordinator
from mpqueue.compat.v1.train import queue_runner as queue_runner
from mpqueue.coordinator import Coordinator as Coordinator
from mpqueue.parsing.example import BytesList as BytesList
from mpqueue.parsing.example import Example as Example
from mpqueue.parsing.example import Feature as Feature
from mpqueue.parsing.example import FeatureList as FeatureList
from mpqueue.parsing.example import FeatureLists as FeatureLists
from mpqueue.parsing.example import Features as Features
from mpqueue.parsing.example import FloatList as FloatList
from mpqueue.parsing.example import Int64List as Int64List
from mpqueue.parsing.example import SequenceExample as SequenceExample
from mpqueue.train.looper import LooperThread as LooperThread
from mpqueue.train.queue_runner_def import QueueRunnerDef as QueueRunnerDef

__all__ = [
    "BytesList",
    "ChiefSessionCreator",
    "Coordinator",
    "Example",
    "Feature",
    "FeatureList",
    "FeatureLists",
    "Features",
    "FloatList",
    "Int64List",
    "LooperThread",
    "MonitoredSession",
    "MonitoredTrainingSession",
    "QueueRunner",
    "QueueRunnerDef",
    "Scaffold",
    "SequenceExample",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "SingularMonitoredSession",
    "StopAtStepHook",
    "Supervisor",
    "add_queue_runner",
    "assert_global_step",
    "batch",
    "batch_join",
    "coordinator",
    "create_global_step",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "input_producer",
    "limit_epochs",
    "match_filenames_once",
    "queue_runner",
    "range_input_producer",
    "shuffle_batch",
    "shuffle_batch_join",
    "slice_input_producer",
    "start_queue_runners",
    "string_input_producer",
]
