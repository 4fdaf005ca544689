"""The names of ``tf.train`` that concern input. What trains is not here."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.train.batching": "batch batch_join shuffle_batch shuffle_batch_join",
        "mpqueue.compat.train.epochs": "limit_epochs match_filenames_once",
        "mpqueue.compat.train.producers": (
            "input_producer range_input_producer slice_input_producer string_input_producer"
        ),
        "mpqueue.compat.train.runners": "QueueRunner add_queue_runner start_queue_runners",
        "mpqueue.compat.train.steps": (
            "assert_global_step create_global_step get_global_step get_or_create_global_step global_step"
        ),
        "mpqueue.compat.train.hooks": (
            "SessionRunArgs SessionRunContext SessionRunHook SessionRunValues StopAtStepHook"
        ),
        "mpqueue.compat.train.scaffold": "ChiefSessionCreator Scaffold",
        "mpqueue.compat.train.monitored": "MonitoredSession MonitoredTrainingSession SingularMonitoredSession",
        "mpqueue.compat.train.supervisor": "Supervisor",
        "mpqueue.coordinator": "Coordinator",
        "mpqueue.train.looper": "LooperThread",
        "mpqueue.train.queue_runner_def": "QueueRunnerDef",
        "mpqueue.parsing.example": (
            "BytesList Example Feature FeatureList FeatureLists Features FloatList Int64List SequenceExample"
        ),
    },
    submodules="coordinator queue_runner",
    prefix="tf.train",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
