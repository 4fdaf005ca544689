"""Names that another user has: in a folder that users share, whoever is first has a name, and is not believed for it."""

import os
import socket
import stat
import tempfile

import numpy as np
import pytest
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root

import mpqueue
from mpqueue.errors import ServiceError
from mpqueue.service.server_directory import ServerDirectory
from mpqueue.system import folders
from mpqueue.transport import credentials

OWN = os.geteuid()
NUMBERS = [np.full(2, number) for number in range(3)]
DEADLOCK_S = 60


def attach(name, **options):
    with mpqueue.attach(name, timeout=DEADLOCK_S, **options) as consumer:
        return [batch.tolist() for batch in consumer]


@pytest.fixture
def use():
    """A call that uses a server; `tests/tf1/serving` runs these tests with another one."""
    return attach


@pytest.fixture
def served():
    """The value that `use` returns."""
    return [[0, 0], [1, 1], [2, 2]]


@pytest.fixture
def server(servers_directory):
    with mpqueue.Server("photos", NUMBERS, mode="broadcast", workers=1) as made:
        yield made


# On any machine: the server is this user's, and another user's is looked for; or the kernel says another one


def test_a_server_of_this_user_is_found_by_no_uid_and_by_the_own_one(server, use):
    assert use("photos") == use("photos", uid=OWN)


def test_a_folder_of_another_user_than_the_one_that_is_meant_is_refused_at_once(server, use):
    wanted = rf"{server.folder} belongs to uid {OWN}, expected a server of uid {OWN + 1}\. .* pass uid={OWN}\."
    with pytest.raises(ServiceError, match=wanted):
        use("photos", uid=OWN + 1)


def test_it_is_refused_too_before_anybody_listens(servers_directory, use):
    os.mkdir(f"{servers_directory}/photos", 0o700)
    with pytest.raises(ServiceError, match=rf"pass uid={OWN}\. Otherwise, have that user's server use another name"):
        use("photos", uid=OWN + 1)


def test_who_listens_is_asked_of_the_kernel(server, use, monkeypatch):
    """A folder that is ours proves nothing of who listens: its socket may be a link to another one."""
    real = credentials.credentials_of
    monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=OWN + 1))
    with pytest.raises(
        ServiceError, match=rf"expected a server of uid {OWN} .* of uid {OWN}, got uid {OWN + 1}.* pass uid"
    ):
        use("photos")


def test_a_folder_that_others_may_write_to_is_refused(server, use):
    os.chmod(server.folder, 0o722)
    with pytest.raises(ServiceError, match=f"other users may write to the folder {server.folder} .*chmod go-w"):
        use("photos")


def test_a_link_of_this_user_to_the_folder_is_followed(server, servers_directory, use):
    os.symlink(server.folder, f"{servers_directory}/current")
    assert use(f"{servers_directory}/current") == use("photos")


def test_a_link_of_another_user_is_not(server, servers_directory, use, monkeypatch):
    """It may lead to a folder that is ours, and another server's."""
    link = f"{servers_directory}/current"
    os.symlink(server.folder, link)
    lstat, real = os.lstat, os.lstat(link)

    def of_another(path, **named):
        found = lstat(path, **named)
        return os.stat_result([*found[:4], OWN + 1, *found[5:10]]) if os.path.samestat(found, real) else found

    with monkeypatch.context() as patched, pytest.raises(ServiceError, match=f"a link that uid {OWN + 1} has made"):
        patched.setattr(folders.os, "lstat", of_another)
        patched.setattr(folders.os, "geteuid", lambda: OWN + 2)  # or root's would be this user's
        use(link, uid=OWN)


@pytest.mark.parametrize(
    ("uid", "error"), [("0", TypeError), (True, TypeError), (-1, ValueError), (1 << 32, ValueError)]
)
def test_no_user_is_an_error_of_the_call(use, uid, error):
    with pytest.raises(error, match=r"uid must be .*user id.*got"):
        use("photos", uid=uid)


def test_the_servers_of_another_user_are_looked_for_where_that_user_has_them(monkeypatch):
    monkeypatch.delenv("MPQUEUE_HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", tempfile.gettempdir())
    assert ServerDirectory.of("photos", OWN + 1).folder == f"{tempfile.gettempdir()}/mpqueue-{OWN + 1}/photos"


# Where another user can be had


@pytest.fixture
def shared(servers_directory):
    """As the folder for temporary files is: all may make what they like, and remove what is theirs."""
    os.chmod(servers_directory, 0o1777)
    return servers_directory


@pytest.fixture
def stranger():
    with Other() as other:
        other.ask(become, STRANGER)
        yield other


_held = []


def serve(name, allow_uids):
    _held.append(
        mpqueue.Server(name, NUMBERS, mode="broadcast", workers=1, start_method="fork", allow_uids=allow_uids).start()
    )


def stop():
    _held.pop().stop()


@needs_root
def test_a_squatted_name_is_refused_and_may_be_asked_for(shared, use, served):
    with mpqueue.Server("other", NUMBERS, mode="broadcast", workers=1, start_method="fork"):
        use("other")  # what it imports, the stranger cannot
    with Other() as stranger:
        stranger.ask(become, STRANGER)
        stranger.ask(serve, "photos", (OWN,))
        with pytest.raises(ServiceError, match=rf"belongs to uid {STRANGER}, expected a server of uid {OWN}"):
            use("photos")
        assert use("photos", uid=STRANGER) == served
        with pytest.raises(
            ServiceError, match=rf"belongs to uid {STRANGER}, but this server runs as uid {OWN}: choose"
        ):
            mpqueue.Server("photos", NUMBERS, workers=1).start()
        stranger.ask(stop)


@needs_root
def test_a_link_that_a_stranger_has_made_leads_nowhere(shared, stranger, use):
    with mpqueue.Server("other", NUMBERS, mode="broadcast", workers=1) as other:
        stranger.ask(os.symlink, other.folder, f"{shared}/photos")
        with pytest.raises(ServiceError, match=rf"a link that uid {STRANGER} has created"):
            use("photos")


@needs_root
def test_a_squatted_folder_of_all_servers_is_refused(shared, stranger, use, monkeypatch):
    """The one for users who have chosen none, in the folder for temporary files."""
    monkeypatch.delenv("MPQUEUE_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", shared)
    stranger.ask(os.mkdir, f"{shared}/mpqueue-{OWN}")
    with pytest.raises(
        ServiceError, match=rf"the folder {shared}/mpqueue-{OWN} belongs to uid {STRANGER}, expected a server"
    ):
        use("photos")


@needs_root
def test_a_user_who_may_attach_says_whose_server_it_is(servers_directory, stranger):
    with mpqueue.Server("photos", NUMBERS, mode="broadcast", workers=1, allow_uids=(STRANGER,)) as server:
        assert stat.S_IMODE(os.stat(server.folder).st_mode) == 0o711
        with pytest.raises(ServiceError, match=rf"pass uid={OWN}"):
            stranger.ask(attach, "photos")
        assert stranger.ask(attach_as, "photos", OWN) == [[0, 0], [1, 1], [2, 2]]


def attach_as(name, uid):
    return attach(name, uid=uid)


@needs_root
def test_a_stranger_who_listens_in_a_folder_of_ours_gets_no_word(servers_directory, stranger):
    os.mkdir(f"{servers_directory}/photos", 0o755)
    stranger_end, own_end = socket.socketpair()
    with own_end, Other(stranger_end) as other:
        stranger_end.close()
        os.chmod(f"{servers_directory}/photos", 0o777)  # for a moment
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
