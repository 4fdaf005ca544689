"""Agents as Ray actors, one per node: start, stop, and the reason why an agent could not be started."""

import sys
from typing import Any

from mpqueue import version
from mpqueue.backends.ray.connect import Node, bundles_of
from mpqueue.backends.ray.wire import AgentTerms
from mpqueue.plan.options.ray_options import RayOptions


def start_agent(node: Node, num_workers: int, options: RayOptions, terms: AgentTerms) -> tuple[Any, Any]:
    """Start an agent on a node; return its actor, and a Ray reference that is ready when the agent has exited.

    Args:
        node: The node.
        num_workers: Number of workers where to reserve CPUs and other resources.
        options: The options of the user.
        terms: The instructions for the agent.
    """
    import ray

    one = 1 if options.num_cpus is None else options.num_cpus
    num_cpus = num_workers * one
    if options.num_cpus is None:  # allow more workers than CPUs, as on one machine
        num_cpus = min(num_cpus, node.resources.get("CPU", 0))
    actor = (
        ray.remote(_make_agent())
        .options(
            num_cpus=num_cpus,
            resources={name: amount * num_workers for name, amount in options.resources.items() if name != "GPU"},
            num_gpus=options.resources.get("GPU", 0) * num_workers,
            scheduling_strategy=_strategy_for(node, options.scheduling_strategy),
            runtime_env=None if options.runtime_env is None else dict(options.runtime_env),
            # Ray must not restart an agent by itself: its workers, ring and connection would be lost, and the trainer
            # would not know.
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
        # Not soft: on another node, the workers would not have the room that was computed for this one.
        return NodeAffinitySchedulingStrategy(node.id, soft=False)
    return PlacementGroupSchedulingStrategy(
        strategy.placement_group,
        placement_group_bundle_index=bundles[node.id],
        placement_group_capture_child_tasks=False,
    )


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _make_agent() -> type:
    """Return the class of the actor. It is local, so that Ray pickles it by value."""

    # Pickled by value, because the node may not have this package. `serve` then reports this.
    class MpqueueAgent:
        def serve(self, version: str, python: str, terms: tuple[Any, ...]) -> None:
            """Compare versions and run the agent."""
            import sys
            from importlib import import_module

            there = f"{sys.version_info[0]}.{sys.version_info[1]}"
            if there != python:
                raise RuntimeError(
                    f"expected Python {python}, got {there} on the node: use the same version on all nodes"
                )
            try:
                found = import_module("mpqueue").__version__
            except ImportError as error:
                raise RuntimeError(
                    f"mpqueue cannot be imported on the node ({error}): install mpqueue {version} on all nodes, or use "
                    "ray_options={'runtime_env': ...}"
                ) from None
            if found != version:
                raise RuntimeError(
                    f"expected mpqueue {version}, got {found} on the node: use the same version on all nodes"
                )
            from mpqueue.backends.ray.agent import serve
            from mpqueue.backends.ray.wire import AgentTerms

            serve(AgentTerms(*terms))

    return MpqueueAgent


def end_agent(actor: Any) -> None:
    """Kill an agent, if it is still running."""
    import ray

    try:
        ray.kill(actor)
    except Exception:  # the cluster is down or the program has left it: the agent exits with its connection
        return


def reason_of(ended: Any) -> str | None:
    """Return why an agent has exited or could not be started; None if it is running, according to Ray."""
    import ray

    try:
        # Not `ray.get` with a timeout: it raises its own error for an agent that runs, which is the normal case.
        ready, _ = ray.wait([ended], timeout=0)
        if not ready:
            return None
        ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        return str(error.cause)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line and not line.startswith("\t")]  # without the ids
        return f"{type(error).__name__}: {' '.join(lines)}"
    return "the agent exited"
