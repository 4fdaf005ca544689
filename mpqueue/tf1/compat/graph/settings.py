"""Settings of sessions and runs, with TensorFlow's fields. Only the time limits have an effect."""

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar


class _AnySettings(SimpleNamespace):
    """A group of settings with any names; an attribute that is not set is a nested group."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        group = _AnySettings()
        setattr(self, name, group)
        return group


class _Settings:
    """Settings with known names.

    Args:
        given: Their values by name. A group can be a dict.

    Raises:
        ValueError: A name is unknown.
    """

    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {}  # by name, a function that returns the default

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            make = self._FIELDS.get(name)
            if make is None:
                raise ValueError(self._unknown(name))
            is_group = isinstance(make, type) and issubclass(make, _Settings | _AnySettings)
            setattr(self, name, make(**value) if is_group and isinstance(value, dict) else value)

    def __getattr__(self, name: str) -> Any:
        if name not in self._FIELDS:
            raise AttributeError(self._unknown(name))
        value = self._FIELDS[name]()
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._FIELDS:
            raise AttributeError(self._unknown(name))
        super().__setattr__(name, value)

    def _unknown(self, name: str) -> str:
        return f"{type(self).__name__} has no field {name!r}. Its fields are {', '.join(sorted(self._FIELDS))}"

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({given})"


class GPUOptions(_Settings):
    """Settings of devices, accepted without effect."""

    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(("allow_growth", "force_gpu_compatible"), bool),
        **dict.fromkeys(("allocator_type", "visible_device_list"), str),
        **dict.fromkeys(("deferred_deletion_bytes", "polling_active_delay_usecs", "polling_inactive_delay_msecs"), int),
        "per_process_gpu_memory_fraction": float,
        "experimental": _AnySettings,
    }


class OptimizerOptions(_Settings):
    """Settings for graph optimization, accepted without effect."""

    L0: ClassVar[int] = -1
    L1: ClassVar[int] = 0
    OFF: ClassVar[int] = 0
    ON_1: ClassVar[int] = 1
    ON_2: ClassVar[int] = 2
    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(("do_common_subexpression_elimination", "do_constant_folding", "do_function_inlining"), bool),
        **dict.fromkeys(("max_folded_constant_in_bytes", "opt_level", "global_jit_level"), int),
    }


class GraphOptions(_Settings):
    """Settings of a graph, accepted without effect."""

    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(
            ("enable_recv_scheduling", "infer_shapes", "place_pruned_graph", "enable_bfloat16_sendrecv"), bool
        ),
        **dict.fromkeys(("build_cost_model", "build_cost_model_after", "timeline_step"), int),
        "optimizer_options": OptimizerOptions,
        "rewrite_options": _AnySettings,
    }


class ConfigProto(_Settings):
    """Settings of a session. ``operation_timeout_in_ms`` limits each run; the others are accepted without effect.

    Raises:
        ValueError: A setting is not a field of TensorFlow's ``ConfigProto``. Assigning it raises an ``AttributeError``.
    """

    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(
            (
                "allow_soft_placement",
                "isolate_session_state",
                "log_device_placement",
                "share_cluster_devices_in_session",
                "use_per_session_threads",
            ),
            bool,
        ),
        **dict.fromkeys(("inter_op_parallelism_threads", "intra_op_parallelism_threads", "placement_period"), int),
        **dict.fromkeys(("device_filters", "session_inter_op_thread_pool"), list),
        **dict.fromkeys(("cluster_def", "experimental", "rpc_options"), _AnySettings),
        "device_count": dict,
        "gpu_options": GPUOptions,
        "graph_options": GraphOptions,
        "operation_timeout_in_ms": int,
    }


class RunOptions(_Settings):
    """Settings of one run. ``timeout_in_ms`` limits it; the others are accepted without effect.

    Raises:
        ValueError: A setting is not a field of TensorFlow's ``RunOptions``. Assigning it raises an ``AttributeError``.
    """

    NO_TRACE: ClassVar[int] = 0
    SOFTWARE_TRACE: ClassVar[int] = 1
    HARDWARE_TRACE: ClassVar[int] = 2
    FULL_TRACE: ClassVar[int] = 3
    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(("output_partition_graphs", "report_tensor_allocations_upon_oom"), bool),
        **dict.fromkeys(("inter_op_thread_pool", "timeout_in_ms", "trace_level"), int),
        **dict.fromkeys(("debug_options", "experimental"), _AnySettings),
    }


class RunMetadata(_Settings):
    """Information about a run in TensorFlow; in mpqueue it is always empty."""

    _FIELDS: ClassVar[dict[str, Callable[[], Any]]] = {
        **dict.fromkeys(("cost_graph", "step_stats"), _AnySettings),
        **dict.fromkeys(("function_graphs", "partition_graphs"), list),
    }


def checked(settings: Any, kind: type, what: str) -> Any:
    """Return settings, or None.

    Args:
        settings: The settings.
        kind: The class that they must have.
        what: Name of the argument.

    Raises:
        TypeError: They are not None, and have another class.
    """
    if not (settings is None or isinstance(settings, kind)):
        raise TypeError(f"{what} must be a tf.{kind.__name__} or None, got {settings!r}")
    return settings


def limit_s(milliseconds: Any, what: str) -> float | None:
    """Return a time limit in seconds, or None for 0 or less, which means no limit.

    Raises:
        TypeError: The limit is not an integer.
    """
    try:
        number = operator.index(milliseconds)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {milliseconds!r}") from None
    return number / 1000 if number > 0 else None
