"""Server names taken by other users: in a shared folder, any user can take a name first, and is not trusted."""

import contextlib
import multiprocessing
import os
import socket
import stat
import tempfile
from functools import partial
from multiprocessing import managers
from pathlib import Path

import numpy as np
import pytest
from helpers.other_users import as_of_user
from helpers.queue_processes import Other
from helpers.server_directories import STRANGER, become, needs_root

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.protocol.server_directory import ServerDirectory
from mpqueue.transport import credentials

OWN = os.geteuid()
NUMBERS = [np.full(2, number) for number in range(3)]
DEADLOCK_S = 60


def attach(name, **options):
    with mpqueue.attach(name, timeout=DEADLOCK_S, **options) as consumer:
        return [batch.tolist() for batch in consumer]


@pytest.fixture
def server(servers_directory):
    with mpqueue.Server("photos", NUMBERS, mode="broadcast", workers=1) as made:
        yield made


# On any machine: the server belongs to this user, and another user's is expected; or the kernel reports another user


def test_own_server_is_found_with_and_without_uid(server):
    assert attach("photos") == attach("photos", uid=OWN)


def test_folder_of_unexpected_user_is_rejected_immediately(servers_directory):
    """Also before a server listens there."""
    folder = f"{servers_directory}/photos"
    os.mkdir(folder, 0o700)
    wanted = (
        rf"{folder} belongs to uid {OWN}, expected a server of uid {OWN + 1}\. .* pass uid={OWN}\. Otherwise, have "
    )
    with pytest.raises(ServiceError, match=wanted):
        attach("photos", uid=OWN + 1)


def test_kernel_confirms_user_of_listener(server, monkeypatch):
    """The owner of the folder may differ from the listener's user, because the socket may be a link."""
    monkeypatch.setattr(credentials, "credentials_of", as_of_user(OWN + 1))
    wanted = rf"expected a server of uid {OWN} .* of uid {OWN}, got uid {OWN + 1}.* pass uid"
    with pytest.raises(ServiceError, match=wanted):
        attach("photos")


def test_folder_writable_by_others_is_rejected(server):
    os.chmod(server.folder, 0o722)
    with pytest.raises(ServiceError, match=f"other users may write to the folder {server.folder} .*chmod go-w"):
        attach("photos")


def test_own_link_to_folder_is_followed(server, servers_directory):
    os.symlink(server.folder, f"{servers_directory}/current")
    assert attach(f"{servers_directory}/current") == attach("photos")


@pytest.mark.parametrize(
    ("uid", "error"), [("0", TypeError), (True, TypeError), (-1, ValueError), (1 << 32, ValueError)]
)
def test_invalid_uid_is_rejected(uid, error):
    with pytest.raises(error, match=r"uid must be .*user id.*got"):
        attach("photos", uid=uid)


def test_servers_of_another_user_are_expected_in_that_users_folder(monkeypatch):
    monkeypatch.delenv("MPQUEUE_HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.gettempdir())
    assert ServerDirectory.of("photos", OWN + 1).folder == f"{tempfile.gettempdir()}/mpqueue-{OWN + 1}/photos"


# With a second user


@pytest.fixture
def shared(servers_directory):
    """Like the folder for temporary files: every user may create files, and remove only their own."""
    os.chmod(servers_directory, 0o1777)
    return servers_directory


@pytest.fixture
def stranger():
    with Other() as other:
        other.ask(become, STRANGER)
        yield other


_held = []


def serve(name, allow_uids):
    options = {"mode": "broadcast", "workers": 1, "start_method": "fork", "allow_uids": allow_uids}
    _held.append(mpqueue.Server(name, NUMBERS, **options).start())


def stop():
    _held.pop().stop()


class Proxied:
    def __init__(self, proxy):
        self.proxy, self.epoch = proxy, 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index, self.epoch

    def on_epoch_end(self):
        self.epoch += 1


class Sent(Proxied):
    def __getitem__(self, index):
        return index, self.epoch, self.proxy


def contents_of_rings():
    """Return the memory of all rings of servers that this process has open."""
    contents = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of `iterdir`
            if "memfd:mpqueue" in os.readlink(entry):
                with open(entry, "rb") as file, contextlib.suppress(OSError):  # ENXIO: the end
                    start = 0
                    while True:
                        start = os.lseek(file.fileno(), start, os.SEEK_DATA)
                        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                        contents.append(os.pread(file.fileno(), end - start, start))
                        start = end
    return b"".join(contents)


@pytest.mark.sample(1)
@pytest.mark.parametrize("make", [Proxied, Sent])
def test_memory_that_allowed_users_map_has_no_key_of_a_proxy(shared, make):
    spawn = multiprocessing.get_context("spawn")  # the default of 3.14 leaves a fork server
    with managers.SyncManager(f"\0proxied-{os.getpid()}", ctx=spawn) as manager:
        source = make(manager.list(range(4)))
        server = mpqueue.Server("photos", source, workers=2, batch_size=None, allow_uids=(STRANGER,), mode="broadcast")
        with server, mpqueue.attach("photos") as consumer:
            epochs = [[sample[:2] for sample in consumer] for _ in range(3)]
            contents = contents_of_rings()
        assert epochs == [[(index, epoch) for index in range(4)] for epoch in range(3)]
    assert contents
    assert bytes(multiprocessing.current_process().authkey) not in contents


@needs_root
def test_squatted_name_is_rejected_and_usable_with_uid(shared):
    with mpqueue.Server("other", NUMBERS, mode="broadcast", workers=1, start_method="fork"):
        attach("other")  # the other user may be unable to import it
    with Other() as stranger:
        stranger.ask(become, STRANGER)
        stranger.ask(serve, "photos", (OWN,))
        with pytest.raises(ServiceError, match=rf"belongs to uid {STRANGER}, expected a server of uid {OWN}"):
            attach("photos")
        assert attach("photos", uid=STRANGER) == [[0, 0], [1, 1], [2, 2]]
        refused = rf"belongs to uid {STRANGER}, but this server runs as uid {OWN}: choose"
        with pytest.raises(ServiceError, match=refused):
            mpqueue.Server("photos", NUMBERS, workers=1).start()
        stranger.ask(stop)


@needs_root
def test_link_of_stranger_is_not_followed(shared, stranger):
    with mpqueue.Server("other", NUMBERS, mode="broadcast", workers=1) as other:
        stranger.ask(os.symlink, other.folder, f"{shared}/photos")
        with pytest.raises(ServiceError, match=rf"a link that uid {STRANGER} has created"):
            attach("photos")


@needs_root
def test_squatted_parent_folder_is_rejected(shared, stranger, monkeypatch):
    """The parent folder is the default, in the folder for temporary files."""
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", shared)
    stranger.ask(os.mkdir, f"{shared}/mpqueue-{OWN}")
    refused = rf"the folder {shared}/mpqueue-{OWN} belongs to uid {STRANGER}, expected a server"
    with pytest.raises(ServiceError, match=refused):
        attach("photos")


@needs_root
def test_allowed_user_attaches_with_uid(servers_directory, stranger):
    with mpqueue.Server("photos", NUMBERS, mode="broadcast", workers=1, allow_uids=(STRANGER,)) as server:
        assert stat.S_IMODE(os.stat(server.folder).st_mode) == 0o711
        with pytest.raises(ServiceError, match=rf"pass uid={OWN}"):
            stranger.ask(attach, "photos")
        assert stranger.ask(partial(attach, uid=OWN), "photos") == [[0, 0], [1, 1], [2, 2]]


@needs_root
def test_allowed_user_loads_no_pickles(servers_directory, stranger):
    with mpqueue.Server("texts", ["a", "b"], workers=1, allow_uids=(STRANGER,)):
        with pytest.raises(ServiceError, match="allow_pickle=True"):
            stranger.ask(partial(attach, uid=OWN), "texts")


@needs_root
def test_stranger_listening_in_own_folder_receives_no_data(servers_directory, stranger):
    os.mkdir(f"{servers_directory}/photos", 0o755)
    stranger_end, own_end = socket.socketpair()
    with own_end, Other(stranger_end) as other:
        stranger_end.close()
        os.chmod(f"{servers_directory}/photos", 0o777)  # only in a short window
        other.ask(listen_as_stranger, f"{servers_directory}/photos/socket")
        os.chmod(f"{servers_directory}/photos", 0o755)
        with pytest.raises(ServiceError, match=rf"of uid {OWN}, got uid {STRANGER}"):
            attach("photos")
        assert other.ask(all_that_came) == b""


def listen_as_stranger(given, path):
    become(STRANGER)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    _held.append(listener)


def all_that_came(given):
    connection, _ = _held[0].accept()
    with connection:
        return connection.recv(100)
