"""Names that another user has: a program that connects to a server's queues checks whose server it is, as consumers do."""

import pytest
from service.test_other_users import (  # noqa: F401 - tests and fixtures, run here with another `use`
    DEADLOCK_S,
    OWN,
    server,
    shared,
    stranger,
    test_a_folder_of_another_user_than_the_one_that_is_meant_is_refused_at_once,
    test_a_folder_that_others_may_write_to_is_refused,
    test_a_link_of_another_user_is_not,
    test_a_link_of_this_user_to_the_folder_is_followed,
    test_a_link_that_a_stranger_has_made_leads_nowhere,
    test_a_server_of_this_user_is_found_by_no_uid_and_by_the_own_one,
    test_a_squatted_folder_of_all_servers_is_refused,
    test_a_squatted_name_is_refused_and_may_be_asked_for,
    test_it_is_refused_too_before_anybody_listens,
    test_no_user_is_an_error_of_the_call,
    test_who_listens_is_asked_of_the_kernel,
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


def test_a_session_does_not_use_another_users_server(servers_directory, monkeypatch):
    tf = mpqueue.compat.v1
    with mpqueue.Server("grpc-2222", None):
        with tf.Session("grpc://localhost:2222"):
            pass
        real = credentials.credentials_of
        monkeypatch.setattr(credentials, "credentials_of", lambda end: real(end)._replace(uid=OWN + 1))
        with pytest.raises(UnavailableError, match=f"expected a server of uid {OWN}"):
            tf.Session("grpc://localhost:2222")
