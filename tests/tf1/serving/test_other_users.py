"""Names claimed by a different user: a program that connects checks the owner of the server, as consumers do."""

import pytest
from service.test_other_users import (  # noqa: F401 - tests and fixtures, run here with a different `use`
    DEADLOCK_S,
    OWN,
    server,
    shared,
    stranger,
    test_folder_of_unexpected_user_is_rejected_immediately,
    test_folder_writable_by_others_is_rejected,
    test_invalid_uid_is_rejected,
    test_kernel_confirms_user_of_listener,
    test_link_of_stranger_is_not_followed,
    test_own_link_to_folder_is_followed,
    test_own_server_is_found_with_and_without_uid,
    test_squatted_name_is_rejected_and_usable_with_uid,
    test_squatted_parent_folder_is_rejected,
)

import mpqueue
from mpqueue.errors import UnavailableError
from mpqueue.transport import credentials


def connect(name, **options):
    with mpqueue.connect(name, DEADLOCK_S, **options):
        queue = mpqueue.FIFOQueue(3, "int32", [()], shared_name="numbers")
        queue.enqueue(7)
        return int(queue.dequeue())


@pytest.fixture
def use():
    return connect


@pytest.fixture
def served():
    return 7


def test_session_does_not_use_server_of_another_user(servers_directory, monkeypatch):
    tf = mpqueue.compat.v1
    with mpqueue.Server("grpc-2222", None):
        with tf.Session("grpc://localhost:2222"):
            pass
        real = credentials.credentials_of
        monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=OWN + 1))
        with pytest.raises(UnavailableError, match=f"expected a server of uid {OWN}"):
            tf.Session("grpc://localhost:2222")
