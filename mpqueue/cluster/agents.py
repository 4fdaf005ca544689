"""Agents as Ray sees them: one actor on each node, and why one could not be started."""

import sys
from typing import Any

from mpqueue import version
from mpqueue.cluster.joining import Node, bundles_of
from mpqueue.cluster.wire import AgentTerms
from mpqueue.plan.ray_options import RayOptions


def start_agent(node: Node, num_workers: int, options: RayOptions, terms: AgentTerms) -> tuple[Any, Any]:
    """Have Ray start an agent on a node; return its actor, and what is ready when it has ended or could not start.

    Args:
        node: Where.
        num_workers: For how many workers it asks Ray for CPUs and other resources.
        options: Of the user.
        terms: For the agent.
    """
    import ray

    one = 1 if options.num_cpus is None else options.num_cpus
    num_cpus = num_workers * one
    if options.num_cpus is None:  # more workers than CPUs, as on one machine
        num_cpus = min(num_cpus, node.resources.get("CPU", 0))
    actor = (
        ray.remote(_make_agent())
        .options(
            num_cpus=num_cpus,
            resources={name: amount * num_workers for name, amount in options.resources.items() if name != "GPU"},
            num_gpus=options.resources.get("GPU", 0) * num_workers,
            scheduling_strategy=_strategy_for(node, options.scheduling_strategy),
            runtime_env=None if options.runtime_env is None else dict(options.runtime_env),
            max_restarts=0,
            max_task_retries=0,
        )
        .remote()
    )
    return actor, actor.serve.remote(version.__version__, _python(), tuple(terms))


def _strategy_for(node: Node, strategy: Any) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

    bundles = bundles_of(strategy)
    if bundles is None:
        return NodeAffinitySchedulingStrategy(node.id, soft=False)
    return PlacementGroupSchedulingStrategy(
        strategy.placement_group, placement_group_bundle_index=bundles[node.id],
        placement_group_capture_child_tasks=False,
    )  # fmt: skip


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _make_agent() -> type:
    """Return the class of the actor. It is made here so that it travels by value, to nodes without this package too."""

    class MpqueueAgent:
        def serve(self, version: str, python: str, terms: tuple[Any, ...]) -> None:
            """Compare versions, and be an agent."""
            import sys
            from importlib import import_module

            there = f"{sys.version_info[0]}.{sys.version_info[1]}"
            if there != python:
                raise RuntimeError(f"Python is {there} there and {python} here: use the same version on all nodes")
            try:
                found = import_module("mpqueue").__version__
            except ImportError as error:
                raise RuntimeError(
                    f"mpqueue cannot be imported there ({error}): install mpqueue {version} on all nodes, or give it "
                    "to them by ray_options={'runtime_env': ...}"
                ) from None
            if found != version:
                raise RuntimeError(f"mpqueue is {found} there and {version} here: use the same version on all nodes")
            from mpqueue.cluster.agent import serve
            from mpqueue.cluster.wire import AgentTerms

            serve(AgentTerms(*terms))

    return MpqueueAgent


def end_agent(actor: Any) -> None:
    """Have Ray end an agent, if that is still needed."""
    import ray

    try:
        ray.kill(actor)
    except Exception:  # the cluster is gone, or the program has left it: the agent sees the end of its connection
        return


def reason_of(ended: Any) -> str | None:
    """Return why an agent has ended, or could not be started; None: it has not, as far as Ray knows."""
    import ray

    try:
        ready, _ = ray.wait([ended], timeout=0)
        if not ready:
            return None
        ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        return str(error.cause)
    except Exception as error:
        told = [line for line in str(error).splitlines() if line and not line.startswith("\t")]  # but not the ids
        return f"{type(error).__name__}: {' '.join(told)}"
    return "the agent has ended"
