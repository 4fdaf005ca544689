"""Servers, clusters, containers and the targets of sessions."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from helpers.others import Other
from helpers.pages import DOCS
from helpers.server_directories import servers_directory

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.train import server as server_module

__all__ = ["servers_directory"]


@pytest.fixture(autouse=True)
def _fresh_graph():
    with tf.Graph().as_default():
        yield


@contextmanager
def running(*arguments, **options):
    """Yield a server that ends with the block instead of with the program."""
    server = tf.train.Server(*arguments, **options) if arguments else tf.train.Server.create_local_server(**options)
    try:
        yield server
    finally:
        stop(server)


def stop(server):
    server_module._started.remove(server)
    server._server.stop()


def jobs(capacity=10, dtype=tf.float32, **options):
    return tf.FIFOQueue(capacity, dtype, shared_name="jobs", **options)


class TestServer:
    def test_sessions_with_the_target_share_queues_by_name(self, servers_directory):
        with running() as server:
            queue = jobs(name="one")
            with tf.Session(server.target) as session:
                session.run(queue.enqueue(1.5))
            with tf.Graph().as_default():
                queue = jobs(name="other")
                with tf.Session(server.target) as session:
                    assert session.run([queue.size(), queue.dequeue()])[1] == 1.5

    def test_sessions_of_two_processes_share_queues(self, servers_directory):
        def produce(target):
            with tf.Graph().as_default(), tf.Session(target) as session:
                session.run(jobs().enqueue(1.5))

        with running() as server, Other() as other:
            other.ask(produce, server.target)
            assert tf.Session(server.target).run(jobs().dequeue()) == 1.5

    def test_sessions_without_the_target_do_not_share_queues(self, servers_directory):
        with running() as server:
            queue = jobs()
            tf.Session(server.target).run(queue.enqueue(1.5))
            assert tf.Session().run(queue.size()) == 0

    def test_queue_without_a_shared_name_belongs_to_the_session(self, servers_directory):
        with running() as server:
            queue = tf.FIFOQueue(10, tf.float32, name="own")
            tf.Session(server.target).run(queue.enqueue(1.5))
            assert tf.Session(server.target).run(queue.size()) == 0

    def test_different_queue_with_the_same_name_fails_on_use(self, servers_directory):
        with running() as server:
            session = tf.Session(server.target)
            session.run(jobs().size())
            for other in (
                jobs(11),
                jobs(10, tf.int32),
                tf.PaddingFIFOQueue(10, tf.float32, [[None]], shared_name="jobs"),
            ):
                with pytest.raises(tf.errors.InvalidArgumentError, match="'jobs' exists with"):
                    session.run(other.size())
            with pytest.raises(tf.errors.InvalidArgumentError, match="shared_name must not start with '_'"):
                session.run(tf.FIFOQueue(10, tf.float32, shared_name="_jobs").size())

    def test_shuffle_queue_with_graph_level_seed_is_shared(self, servers_directory):
        with running() as server:
            session = tf.Session(server.target)
            for number in (1, 2):
                tf.set_random_seed(number)
                queue = tf.RandomShuffleQueue(10, 0, tf.int32, shared_name="mixed")
                session.run(queue.enqueue(number))
            assert session.run(queue.size()) == 2

    def test_reset_removes_containers_or_all_queues(self, servers_directory):
        with running() as server:
            with tf.container("experiment"):
                inner = jobs()
            outer = jobs()
            tf.Session(server.target).run([inner.enqueue(1.0), outer.enqueue(1.0)])
            tf.Session.reset(server.target, ["experiment"])
            assert tf.Session(server.target).run([inner.size(), outer.size()]) == [0, 1]
            tf.Session.reset(server.target)
            assert tf.Session(server.target).run([inner.size(), outer.size()]) == [0, 0]
        with pytest.raises(tf.errors.NotFoundError):
            tf.Session.reset("")

    def test_end_of_the_server_raises_unavailable(self, servers_directory):
        with running() as server:
            session, queue = tf.Session(server.target), jobs()
            session.run(queue.size())
        with pytest.raises(tf.errors.UnavailableError, match="has exited or was stopped") as caught:
            session.run(queue.dequeue())
        assert caught.value.op.type == "QueueDequeueV2"

    def test_monitored_sessions_and_supervisors_use_the_server(self, servers_directory):
        with running() as server:
            put = jobs().enqueue(1.0)
            with tf.train.MonitoredTrainingSession(server.target) as session:
                session.run(put)
            with tf.Graph().as_default():
                size = jobs().size()
                with tf.train.Supervisor().managed_session(server.target) as session:
                    assert session.run(size) == 1

    def test_a_port_has_only_one_server(self, servers_directory):
        cluster = tf.train.ClusterSpec({"local": ["localhost:2222"]})
        with running(cluster, job_name="local", task_index=0) as server:
            assert server.target == "grpc://localhost:2222"
            with tf.Session("grpc://127.0.0.1:2222") as session:
                assert session.run(jobs().size()) == 0
            with pytest.raises(tf.errors.UnknownError, match=f"in process {os.getpid()}"):
                tf.train.Server(cluster)

    def test_server_can_be_started_later(self, servers_directory):
        server = tf.train.Server.create_local_server(start=False)
        with pytest.raises(RuntimeError, match="not started"):
            server.join()
        server.start()
        server.start()
        try:
            with tf.Session(server.target) as session:
                assert session.run(jobs().size()) == 0
        finally:
            stop(server)

    def test_server_def_creates_another_server(self, servers_directory):
        one = tf.train.Server({"local": {0: "localhost:2222"}}, start=False)
        assert (one.server_def.job_name, one.server_def.task_index, one.server_def.protocol) == ("local", 0, "grpc")
        assert tf.train.Server(one.server_def, start=False).target == one.target
        assert tf.train.ClusterSpec(one.server_def.cluster) == {"local": {0: "localhost:2222"}}

    @pytest.mark.parametrize(
        ("definition", "options", "error", "why"),
        [
            (3, {}, TypeError, "Could not convert"),
            ({"a": ["localhost:1"], "b": ["localhost:2"]}, {}, ValueError, "explicit `job_name`"),
            ({"a": ["localhost:1", "localhost:2"]}, {}, ValueError, "explicit `task_index`"),
            (
                {"a": ["localhost:1"]},
                {"job_name": "b", "task_index": 0},
                tf.errors.InternalError,
                "not defined in cluster",
            ),
            ({"a": ["localhost:1"]}, {"task_index": 4}, tf.errors.InternalError, "not defined in job"),
            ({"a": ["localhost:1"]}, {"protocol": "grpc+verbs"}, tf.errors.NotFoundError, "No server factory"),
            ({"a": ["localhost"]}, {}, tf.errors.NotFoundError, "host:port"),
            (
                {"a": ["elsewhere:1"]},
                {},
                tf.errors.UnimplementedError,
                r"another machine.*see \"Several machines with Ray\"",
            ),
            (
                {"a": ["localhost:1", "localhost:2"]},
                {"task_index": 0},
                tf.errors.UnimplementedError,
                r"backend=\"ray\": see \"Several machines with Ray\" in the documentation",
            ),
        ],
    )
    def test_unsupported_server_definition_raises(self, definition, options, error, why):
        with pytest.raises(error, match=why):
            tf.train.Server(definition, **options)
        assert (DOCS / "frameworks/ray.md").is_file()  # some error messages refer to this page


class TestTargets:
    def test_session_waits_for_its_server_up_to_the_timeout(self, servers_directory):
        config = tf.ConfigProto(operation_timeout_in_ms=10)
        with pytest.raises(
            tf.errors.UnavailableError, match="Cannot open a session with grpc://localhost:2222: found no server"
        ):
            tf.Session("grpc://localhost:2222", config=config)

    @pytest.mark.parametrize(
        ("target", "error"),
        [
            (3, TypeError),
            ("foo://x", tf.errors.NotFoundError),
            ("grpc://localhost", tf.errors.NotFoundError),
            ("grpc://elsewhere:2222", tf.errors.UnimplementedError),
        ],
    )
    def test_invalid_target_raises(self, target, error):
        with pytest.raises(error):
            tf.Session(target)


class TestContainers:
    def test_containers_separate_names_in_a_session(self):
        outer = jobs()
        with tf.container("experiment") as name:
            assert name == "experiment"
            inner = jobs()
        with tf.Session() as session:
            session.run(outer.enqueue(1.0))
            assert session.run([outer.size(), inner.size()]) == [1, 0]

    def test_queue_operation_has_container_and_shared_name_attributes(self):
        with tf.container("experiment"):
            op = jobs().queue_ref.op
        assert (op.get_attr("container"), op.get_attr("shared_name")) == (b"experiment", b"jobs")
        op = tf.FIFOQueue(10, tf.float32).queue_ref.op
        assert (op.get_attr("container"), op.get_attr("shared_name")) == (b"", b"")


class TestClusterSpec:
    def test_cluster_spec_returns_jobs_tasks_and_addresses(self):
        cluster = tf.train.ClusterSpec({"worker": {1: "b:2"}, "ps": ["a:1", b"a:2"]})
        assert cluster.jobs == ["worker", "ps"]
        assert cluster.as_dict() == {"worker": {1: "b:2"}, "ps": ["a:1", "a:2"]}
        assert (cluster.num_tasks("ps"), cluster.task_indices("worker"), cluster.task_address("ps", 1)) == (
            2,
            [1],
            "a:2",
        )
        assert cluster.job_tasks("worker") == [None, "b:2"]
        assert str(cluster) == "ClusterSpec({'ps': ['a:1', 'a:2'], 'worker': {1: 'b:2'}})"
        assert cluster == tf.train.ClusterSpec(cluster) == tf.train.ClusterSpec(cluster.as_cluster_def())
        assert cluster
        assert not tf.train.ClusterSpec({})
        assert tf.train.ClusterSpec({"empty": []}).as_dict() == {"empty": {}}

    @pytest.mark.parametrize("cluster", [3, {"a": "b"}, {"a": 5}, {"a": [1]}, {5: ["a:1"]}])
    def test_invalid_cluster_raises_type_error(self, cluster):
        with pytest.raises(TypeError):
            tf.train.ClusterSpec(cluster)

    def test_missing_job_or_task_raises_value_error(self):
        cluster = tf.train.ClusterSpec({"a": ["a:1"]})
        for call in (
            lambda: cluster.num_tasks("b"),
            lambda: cluster.task_address("a", 3),
            lambda: cluster.job_tasks("b"),
        ):
            with pytest.raises(ValueError, match=r"No such job|No task"):
                call()
        with pytest.raises(ValueError, match="invalid literal"):
            tf.train.ClusterSpec({"a": {"x": "h"}})


TEMPORARY = """
import mpqueue.compat.v1 as tf
target = tf.train.Server.create_local_server().target
queue = tf.FIFOQueue(10, tf.float32, shared_name="jobs")
with tf.Session(target) as session:
    print(session.run(queue.size()))
"""


def test_server_lives_as_long_as_its_program_and_leaves_no_files(servers_directory):
    done = subprocess.run([sys.executable, "-c", TEMPORARY], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0"], done.stderr
    assert os.listdir(servers_directory) == []
