"""The directory of a server: one server per name, access by other users, and cleanup."""

import os
import select
import signal
import socket
import stat
import threading
import time

import pytest
from helpers.forked_calls import status_of_fork
from helpers.queue_processes import Other
from helpers.server_directories import STRANGER, become, needs_root
from helpers.wrapped_functions import wrap

from mpqueue.errors import ServiceError
from mpqueue.service.protocol import server_directory
from mpqueue.service.protocol.server_directory import ServerDirectory, greet, receive_answer
from mpqueue.system.descriptors import descriptors
from mpqueue.transport import credentials
from mpqueue.transport.credentials import credentials_of, sentinel_of

DEADLOCK_S = 60

pytestmark = pytest.mark.usefixtures("servers_directory")


@pytest.fixture
def claim():
    """Claims server directories, and closes them after the test."""
    claims = []

    def claimed(name="photos", *, is_open_to_others=False):
        claims.append(ServerDirectory.of(name).claim(is_open_to_others=is_open_to_others))
        return claims[-1]

    yield claimed
    for held in claims:
        held.close()


@pytest.fixture
def connect():
    """Connects to servers, and closes the connections after the test."""
    connections = []

    def connected(directory, within_s=0):
        connections.append(directory.connect(time.monotonic() + within_s))
        return connections[-1]

    yield connected
    for connection in connections:
        descriptors.close_object(connection)


def accepted(claim):
    """The server's end of the next connection."""
    assert select.select([claim.listener], [], [], DEADLOCK_S)[0]
    return claim.listener.accept()[0]


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# Location


@pytest.mark.parametrize("runtime", ["relative", "/no/folder", "/dev/null"])
def test_fallback_folder_is_in_temporary_directory(monkeypatch, servers_directory, runtime):
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setattr("tempfile.tempdir", servers_directory)
    assert ServerDirectory.of("photos").folder == f"{servers_directory}/mpqueue-{os.geteuid()}/photos"


@needs_root
def test_runtime_directory_of_another_user_is_ignored(monkeypatch, servers_directory):
    """The variable is kept by `su`."""
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", servers_directory)
    os.chown(servers_directory, STRANGER, STRANGER)
    assert ServerDirectory.of("photos").folder.endswith(f"/mpqueue-{os.geteuid()}/photos")


def test_path_is_the_folder_itself(monkeypatch, servers_directory):
    monkeypatch.chdir(servers_directory)
    for path in ("./photos", f"{servers_directory}/photos", f"{servers_directory}/photos/", "../photos/../photos"):
        directory = ServerDirectory.of(path)
        assert directory.name == "photos"
        assert directory.folder == os.path.abspath(path)


def test_tilde_in_a_path_is_the_home_folder(monkeypatch, servers_directory):
    monkeypatch.setenv("HOME", str(servers_directory))
    assert ServerDirectory.of("~/photos") == ServerDirectory.of(f"{servers_directory}/photos")
    monkeypatch.setenv("MPQUEUE_HOME", "~/servers")
    assert ServerDirectory.of("photos").folder == f"{servers_directory}/servers/photos"


def test_name_that_cannot_be_a_folder_is_refused():
    for name in ("", ".", "..", "//", "a\0b", "a/b\0", "a\nb", "\ud800", "\x1b[31m"):
        with pytest.raises(ValueError, match="must be the name or the path of a folder") as caught:
            ServerDirectory.of(name)
        assert repr(name) in str(caught.value)
    with pytest.raises(TypeError, match="must be a string, got"):
        ServerDirectory.of(b"photos")


def test_path_longer_than_the_name_of_a_socket_is_accepted(servers_directory, claim, connect):
    room = 107 - len(f"{servers_directory}//socket")
    for name in ("x" * room, "x" * (room + 1), "é" * room, "x" * 255):
        connect(claim(name).directory)


# One server per name


@pytest.mark.parametrize(
    ("is_open", "folder_mode", "socket_mode"), [(False, 0o700, 0o600), (True, 0o711, 0o666)], ids=["own", "others"]
)
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_umask(claim, is_open, folder_mode, socket_mode, umask):
    before = os.umask(umask)
    try:
        held = claim(is_open_to_others=is_open)
    finally:
        os.umask(before)
    assert mode_of(held.directory.folder) == folder_mode
    assert mode_of(held.directory.socket_path) == socket_mode
    assert mode_of(f"{held.directory.folder}/lock") & 0o077 == 0
    assert sorted(os.listdir(held.directory.folder)) == ["lock", "made", "socket"]


def test_second_server_of_name_is_refused_with_process_id_of_first(claim):
    held = claim()
    with (
        Other() as other,
        pytest.raises(ServiceError, match=rf"in use by the server in process {os.getpid()} \(folder"),
    ):
        other.ask(hold, "photos")
    with pytest.raises(ServiceError, match=f"in process {os.getpid()} .*use another name"):
        claim()  # in the same process, too
    assert os.path.exists(held.directory.socket_path)


def test_name_has_one_owner_while_servers_start_and_stop():
    """While one server removes its lock and folder, others create and lock them."""
    with Other() as one, Other() as other, Other() as third:
        for process in (one, other, third):
            process.begin(come_and_go, 50)
        held = [process.end() for process in (one, other, third)]
    assert sum(held) > 0
    assert not os.path.exists(ServerDirectory.of("photos").folder)


def test_last_of_simultaneously_stopping_servers_removes_folder(claim, servers_directory, monkeypatch):
    """The next server arrives while the previous one removes the folder, and leaves before that one notices."""
    held, followed = claim(), []

    def _next_comes_and_leaves(is_removed, folder):
        if followed:
            return is_removed(folder)
        followed.append(True)
        following = claim()
        assert not is_removed(folder)
        following.close()
        return False

    wrap(monkeypatch, server_directory, "_is_removed", _next_comes_and_leaves)
    held.close()
    assert os.listdir(servers_directory) == []


def test_existing_folder_is_kept(claim, servers_directory):
    """A container has mounted it."""
    os.mkdir(f"{servers_directory}/photos", 0o700)
    claim().close()
    assert os.listdir(servers_directory) == ["photos"]
    assert os.listdir(f"{servers_directory}/photos") == []


def test_folder_with_other_files_is_kept(claim, servers_directory):
    held = claim()
    open(f"{servers_directory}/photos/journal", "w").close()
    held.close()
    assert os.listdir(f"{servers_directory}/photos") == ["journal"]


def test_parent_folders_are_created_and_the_package_folder_removed(claim, monkeypatch, servers_directory):
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", servers_directory)
    one, other = claim("one"), claim("other")
    assert mode_of(f"{servers_directory}/mpqueue") == 0o700
    one.close()
    assert os.listdir(f"{servers_directory}/mpqueue") == ["other"]
    other.close()
    assert os.listdir(servers_directory) == []


def test_files_of_killed_server_are_taken_over_and_removed(claim, connect, servers_directory):
    with Other() as dead:
        dead.ask(hold, "photos")
        dead.kill()
    folder = f"{servers_directory}/photos"
    assert sorted(os.listdir(folder)) == ["lock", "made", "socket"]
    open(f"{folder}/new", "w").close()  # killed in between
    with pytest.raises(ServiceError, match="found no server 'photos'"):
        connect(ServerDirectory.of("photos"))
    held = claim()
    connect(ServerDirectory.of("photos"))
    held.close()
    assert os.listdir(servers_directory) == []


def test_forked_child_does_not_hold_name_of_crashed_server(claim):
    with Other() as server:
        server.ask(hold, "photos")
        child = server.ask(fork_a_sleeper)
        try:
            os.kill(server.pid, signal.SIGKILL)
            os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
            claim()
        finally:
            os.kill(child, signal.SIGKILL)


def test_close_in_forked_child_does_nothing(claim, connect):
    held = claim()
    assert status_of_fork(held.close) == 0
    connect(held.directory)
    with pytest.raises(ServiceError, match="is in use by the server"):
        claim()


def test_server_that_cannot_listen_leaves_nothing(claim, servers_directory, monkeypatch):
    monkeypatch.setattr(server_directory, "_BACKLOG", "none")
    with pytest.raises(TypeError):
        claim()
    assert os.listdir(servers_directory) == []


# Folders of other owners


@needs_root
def test_parent_folder_created_by_another_user_is_refused(claim, monkeypatch, servers_directory):
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", servers_directory)
    base = f"{servers_directory}/mpqueue-0"
    os.mkdir(base, 0o777)
    os.chown(base, STRANGER, STRANGER)
    with pytest.raises(ServiceError, match=rf"{base} belongs to uid {STRANGER}"):
        claim()


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_writable_folder_is_refused(claim, servers_directory, mode):
    os.mkdir(f"{servers_directory}/photos")
    os.chmod(f"{servers_directory}/photos", mode)
    with pytest.raises(ServiceError, match=rf"other users may write to the folder .* \(mode {mode:04o}\).*chmod go-w"):
        claim()
    assert mode_of(f"{servers_directory}/photos") == mode


@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_folder_readable_by_others_is_used_and_opened_if_needed(claim, servers_directory, mode):
    os.mkdir(f"{servers_directory}/photos")
    os.chmod(f"{servers_directory}/photos", mode)
    claim().close()
    assert mode_of(f"{servers_directory}/photos") == mode | 0o700
    claim(is_open_to_others=True)
    assert mode_of(f"{servers_directory}/photos") == mode | 0o711


@pytest.mark.parametrize(
    ("make", "what"),
    [(lambda path: os.symlink("/tmp", path), "is a symbolic link"), (os.mkfifo, "is a file")],
    ids=["symlink", "fifo"],
)
def test_file_in_place_of_folder_is_refused(claim, servers_directory, make, what):
    make(f"{servers_directory}/photos")
    with pytest.raises(ServiceError, match=rf"photos {what}, expected a folder: remove it"):
        claim()


def test_error_for_impossible_folder_has_remedy(claim, monkeypatch):
    monkeypatch.setenv("MPQUEUE_HOME", "/dev/null/servers")
    with pytest.raises(ServiceError, match=r"cannot serve 'photos' in /dev/null/servers/photos: .*MPQUEUE_HOME"):
        claim()


# Connecting


def test_early_consumer_is_not_misled_by_socket_of_crashed_server(claim, connect):
    with Other() as dead:
        dead.ask(hold, "photos")
        dead.kill()
    connections = []
    consumer = threading.Thread(target=lambda: connections.append(connect(ServerDirectory.of("photos"), DEADLOCK_S)))
    consumer.start()
    with accepted(claim()):
        consumer.join()
    assert connections


def test_error_after_deadline_names_the_path(connect):
    directory = ServerDirectory.of("photos")
    with pytest.raises(ServiceError, match=f"found no server 'photos' at {directory.socket_path} within 0.0 s"):
        connect(directory)
    with pytest.raises(ServiceError, match=r"within 0\.[1-9] s.*increase timeout.*MPQUEUE_HOME"):
        connect(directory, 0.1)


def test_suspended_server_has_its_own_error(claim, connect, monkeypatch):
    monkeypatch.setattr(server_directory, "_BACKLOG", 0)
    held = claim()
    connect(held.directory)
    with pytest.raises(ServiceError, match=r"accepted no connection for 0\.\d s: is it suspended"):
        connect(held.directory, 0.05)


def test_socket_of_another_kind_is_refused_immediately(servers_directory):
    os.mkdir(f"{servers_directory}/photos")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(f"{servers_directory}/photos/socket")
        with pytest.raises(ServiceError, match=f"cannot connect to {servers_directory}/photos/socket: .*wrong type"):
            ServerDirectory.of("photos").connect(None)


@needs_root
def test_other_user_is_soon_refused_with_allow_uids(claim):
    claim()
    with (
        Other() as stranger,
        pytest.raises(ServiceError, match=rf"uid {STRANGER} may not connect.*allow_uids=\({STRANGER},"),
    ):
        stranger.ask(become, STRANGER)
        stranger.ask(connect_to_root, "photos")


# The peer


@pytest.fixture(params=["of the socket", "of the process id"])
def way(request, monkeypatch):
    """How to get a peer's pidfd: kernels before 6.5 have only the second way."""
    if request.param == "of the process id":
        monkeypatch.setattr(credentials, "_SO_PEERPIDFD", 9999)


def test_sentinel_of_peer_reports_its_exit(claim, way):
    held = claim()
    with Other() as consumer:
        consumer.ask(keep_connected, "photos", b"hello")
        with accepted(held) as peer:
            theirs = credentials_of(peer)
            assert theirs == (consumer.pid, os.geteuid(), os.getegid())
            sentinel = sentinel_of(peer, theirs)
            assert not select.select([sentinel], [], [], 0)[0]
            assert peer.recv(10) == b"hello"
            consumer.kill()
            assert select.select([sentinel], [], [], DEADLOCK_S)[0]
            descriptors.close(sentinel)


def test_peer_that_exits_before_open_of_sentinel_is_detected(claim, way):
    held = claim()
    with Other() as consumer:
        consumer.ask(keep_connected, "photos")
        with accepted(held) as peer:
            theirs = credentials_of(peer)
            consumer.kill()  # and was reaped
            try:
                sentinel = sentinel_of(peer, theirs)
            except ProcessLookupError:
                return
            assert select.select([sentinel], [], [], 0)[0]  # newer kernels still return it
            descriptors.close(sentinel)


@pytest.mark.parametrize("last_words", [b"", b"hello"])
def test_reused_process_id_is_not_taken_for_the_peer(claim, monkeypatch, last_words):
    """Even if data that it sent before its exit is unread."""
    monkeypatch.setattr(credentials, "_SO_PEERPIDFD", 9999)
    held = claim()
    with Other() as consumer:
        consumer.ask(keep_connected, "photos", last_words)
        consumer.kill()
        with accepted(held) as peer:
            theirs = credentials_of(peer)._replace(pid=os.getpid())
            with pytest.raises(ProcessLookupError, match="has ended"):
                sentinel_of(peer, theirs)


def test_peer_in_another_container_raises_error_with_remedy(claim, connect, monkeypatch):
    monkeypatch.setattr(credentials, "_SO_PEERPIDFD", 9999)
    held = claim()
    connect(held.directory)
    with accepted(held) as peer, pytest.raises(NotImplementedError, match=r"another container.*docker run --pid"):
        sentinel_of(peer, credentials_of(peer)._replace(pid=0))


# Code of other processes

_held = []


def hold(name):
    _held.append(ServerDirectory.of(name).claim(is_open_to_others=False))


def come_and_go(times):
    """How often this process had the name, without another owner at the same time."""
    count = 0
    for _ in range(times):
        try:
            held = ServerDirectory.of("photos").claim(is_open_to_others=False)
        except ServiceError:
            continue
        mark = os.path.join(os.environ["MPQUEUE_HOME"], "mark")
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        os.unlink(mark)
        held.close()
        count += 1
    return count


def fork_a_sleeper():
    """Return the child after it has closed the inherited descriptors."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, b"!")
        signal.pause()
    os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)
    return pid


def keep_connected(name, words=b""):
    connection = ServerDirectory.of(name).connect(None)
    if words:
        connection.send(words)
    _held.append(connection)


def connect_to_root(name):
    ServerDirectory.of(name, 0).connect(time.monotonic() + DEADLOCK_S)


@pytest.mark.parametrize("is_early", [True, False], ids=["before the handshake", "before it has read the handshake"])
def test_refusal_is_received_from_server_that_read_nothing(claim, connect, is_early):
    """Closing a connection with unread data resets the other end."""
    held = claim()
    connection = connect(held.directory)
    with accepted(held) as peer:
        if not is_early:
            greet(connection, b"hello")
        peer.send(b"no")
    if is_early:
        greet(connection, b"hello")
    assert receive_answer(connection, 100) == (b"no", [])
    assert receive_answer(connection, 100) == (b"", [])
