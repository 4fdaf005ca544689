"""Cluster descriptions: jobs, their tasks, and the addresses of the tasks. `Server` uses this data."""

from dataclasses import dataclass, field
from typing import Any

Tasks = dict[int, str]


@dataclass
class JobDef:
    """A job of a cluster.

    Attributes:
        name: Name of the job.
        tasks: The address of each task, by index.

    Follows: The protocol buffer ``tf.train.JobDef``.
    """

    name: str = ""
    tasks: Tasks = field(default_factory=dict)


@dataclass
class ClusterDef:
    """A cluster.

    Attributes:
        job: The jobs.

    Follows: The protocol buffer ``tf.train.ClusterDef``.
    """

    job: list[JobDef] = field(default_factory=list)


@dataclass
class ServerDef:
    """A server, as one task of a cluster.

    Attributes:
        cluster: The cluster.
        job_name: The job of the task.
        task_index: Index of the task in the job.
        protocol: Always "grpc".
        default_session_config: Settings, without effect.

    Follows: The protocol buffer ``tf.train.ServerDef``.
    """

    cluster: ClusterDef = field(default_factory=ClusterDef)
    job_name: str = ""
    task_index: int = 0
    protocol: str = "grpc"
    default_session_config: Any = None


class ClusterSpec:
    """A description of jobs, their tasks, and the addresses of the tasks.

    Args:
        cluster: A dict from job names to addresses, in a list or in a dict by index; a `ClusterDef`; or a
            `ClusterSpec`.

    Raises:
        TypeError: ``cluster`` is none of these, or an address is not a string.
        ValueError: An index is not an integer.
    """

    def __init__(self, cluster: Any) -> None:
        if isinstance(cluster, ClusterSpec):
            cluster = cluster.as_cluster_def()
        if isinstance(cluster, ClusterDef):
            cluster = {job.name: job.tasks for job in cluster.job}
        if not isinstance(cluster, dict):
            raise TypeError(
                "`cluster` must be a dictionary mapping one or more job names to lists of network addresses, or a "
                "`ClusterDef`"
            )
        self._jobs = {_text(name, "Job name"): _tasks(name, tasks) for name, tasks in cluster.items()}

    def as_dict(self) -> dict[str, list[str | None] | Tasks]:
        """Return the addresses by job: a list, or a dict by index if indices are missing."""
        addresses: dict[str, list[str | None] | Tasks] = {}
        for name, tasks in self._jobs.items():
            is_dense = bool(tasks) and max(tasks) + 1 == len(tasks)
            addresses[name] = self.job_tasks(name) if is_dense else dict(sorted(tasks.items()))
        return addresses

    def as_cluster_def(self) -> ClusterDef:
        """Return the cluster as a `ClusterDef`."""
        return ClusterDef([JobDef(name, dict(tasks)) for name, tasks in sorted(self._jobs.items())])

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs."""
        return list(self._jobs)

    def num_tasks(self, job_name: str) -> int:
        """Return the number of tasks of a job.

        Raises:
            ValueError: The job does not exist.
        """
        return len(self._job(job_name))

    def task_indices(self, job_name: str) -> list[int]:
        """Return the indices of the tasks of a job.

        Raises:
            ValueError: The job does not exist.
        """
        return sorted(self._job(job_name))

    def task_address(self, job_name: str, task_index: int) -> str:
        """Return the address of a task.

        Raises:
            ValueError: The job or the task does not exist.
        """
        tasks = self._job(job_name)
        if task_index not in tasks:
            raise ValueError(f"No task with index {task_index!r} in job {job_name!r}")
        return tasks[task_index]

    def job_tasks(self, job_name: str) -> list[str | None]:
        """Return the addresses of a job by index, with None for missing indices.

        Raises:
            ValueError: The job does not exist.
        """
        tasks = self._job(job_name)
        return [tasks.get(index) for index in range(max(tasks, default=-1) + 1)]

    def _job(self, name: str) -> Tasks:
        if name not in self._jobs:
            raise ValueError(f"No such job in cluster: {name!r}")
        return self._jobs[name]

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __eq__(self, other: object) -> bool:
        return self._jobs == (other._jobs if isinstance(other, ClusterSpec) else other)

    __hash__ = None  # type: ignore[assignment]  # as in TensorFlow: equal to a dict

    def __repr__(self) -> str:
        entries = self.as_dict()
        return f"ClusterSpec({{{', '.join(f'{name!r}: {entries[name]!r}' for name in sorted(entries))}}})"


def _tasks(job_name: Any, tasks: Any) -> Tasks:
    if isinstance(tasks, list | tuple):
        tasks = dict(enumerate(tasks))
    if not isinstance(tasks, dict):
        raise TypeError(f"The tasks for job {job_name!r} must be a list or a dictionary from integers to strings.")
    return {int(index): _text(address, "Task address") for index, address in tasks.items()}


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str | bytes):
        raise TypeError(f"{what} {value!r} must be bytes or unicode")
    return value.decode() if isinstance(value, bytes) else value
