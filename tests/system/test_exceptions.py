"""Functions for exceptions of user code run none of it, and cannot fail."""

import errno
import traceback

import pytest
from helpers.unusual_exceptions import BASES, MISBEHAVING, Refusal, RefusingClass, Sealed

from mpqueue.errors import WorkerRaised
from mpqueue.system.signals import exceptions
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.user_code.exception_texts import named_text_of, text_of, traceback_text_of
from mpqueue.worker import failures

ANY = MISBEHAVING | BASES
any_exception = pytest.mark.parametrize("make", ANY.values(), ids=ANY)


def raised(error):
    try:
        raise error
    except BaseException as own:
        return own


@pytest.mark.sample(4)
@any_exception
def test_any_exception_has_fields_and_texts(make):
    error, cause = make(5), ValueError()
    exceptions.set_cause(error, cause)
    exceptions.add_note(error, "one")
    exceptions.add_note(error, "two")
    raised(error)
    assert exceptions.cause_of(error) is cause
    assert exceptions.notes_of(error) in (["one", "two"], [])
    assert traceback.extract_tb(exceptions.traceback_of(error))[-1].name == "raised"
    assert "in raised" in traceback_text_of(error)
    assert text_of(error)
    assert named_text_of(error)
    assert exceptions.type_name_of(error)
    exceptions.set_traceback(error, None)
    assert exceptions.traceback_of(error) is None
    assert exceptions.context_of(error) is None


@pytest.mark.sample(4)
@any_exception
def test_any_exception_is_packed(make):
    error = failures.unpack(failures.pack(raised(make(5)), "a note"))
    kind = type(make(5))
    if kind is RefusingClass:
        assert type(error) is WorkerRaised
    else:
        assert vars(type)["__name__"].__get__(type(error)) == kind.__name__
    assert type(exceptions.cause_of(error)) is failures.RemoteTraceback
    assert exceptions.notes_of(error) in (["a note"], [])


def of_own(kind, *args, **options):
    """Return an exception of a subclass with attributes that cannot be set from outside."""

    def refuse(*_):
        raise Refusal

    own = type("Own", (kind,), {"__setattr__": refuse, "__setstate__": refuse, "__module__": __name__})
    return own(*args, **options)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (of_own(FileNotFoundError, errno.ENOENT, "none", "name"), ("errno", "strerror", "filename")),
        (of_own(ImportError, "none", name="name", path="path"), ("name", "path", "msg")),
        (of_own(UnicodeDecodeError, "utf-8", b"a", 0, 1, "why"), ("encoding", "object", "reason")),
        (Sealed(5), ("number",)),
    ],
    ids=["file", "import", "unicode", "slots"],
)
def test_exception_that_refuses_its_state_is_rebuilt_with_all_parts(error, names):
    rebuilt = failures.unpack(failures.pack(error, "a note"))
    assert rebuilt.args == error.args
    assert [getattr(rebuilt, name) for name in names] == [getattr(error, name) for name in names]


def test_group_of_exceptions_that_refuse_their_state_is_rebuilt():
    group = ExceptionGroup("all", [MISBEHAVING["frozen"](1), ValueError(2)])
    rebuilt = failures.unpack(failures.pack(group, "a note"))
    assert type(rebuilt) is ExceptionGroup
    assert [each.args for each in rebuilt.exceptions] == [(1,), (2,)]


@context_manager
def entered(log):
    log.append("in")
    try:
        yield log
    finally:
        log.append("out")


@pytest.mark.sample(4)
@pytest.mark.parametrize("make", [*ANY.values(), StopIteration, ValueError])
def test_exception_leaves_context_unchanged(make):
    log, error = [], make(5)
    with pytest.raises(BaseException) as caught, entered(log) as same:
        assert same is log
        raise error
    assert caught._excinfo[1] is error
    assert log == ["in", "out"]
