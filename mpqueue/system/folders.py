"""Folders and files that belong to this user, and into which nobody else can put anything."""

import os
import stat
from typing import NoReturn

from mpqueue.errors import ServiceError


def base_of(uid: int) -> str:
    """Return the path of the folder of all servers of a user, who has chosen no other."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # It is this user's; after `su`, it may still be that of the user before.
    if uid == os.geteuid() and os.path.isabs(runtime) and _is_ours(runtime):
        return os.path.join(runtime, "mpqueue")
    import tempfile  # 3 ms with what it imports

    return os.path.join(os.path.abspath(tempfile.gettempdir()), f"mpqueue-{uid}")


def _is_ours(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def is_of_others(folder: str) -> bool:
    """Return whether another user has a folder, or anything else of this name."""
    try:
        return os.lstat(folder).st_uid != os.geteuid()
    except OSError:
        return False


def make_or_check(folder: str, mode: int) -> bool:
    """Make a folder, or make sure that one that is there is this user's alone; return whether it was made.

    Raises:
        ServiceError: It is not.
    """
    try:
        os.mkdir(folder, mode)
    except FileExistsError:
        found = os.lstat(folder)
        _check_ours(folder, found)
        if mode & ~found.st_mode:
            os.chmod(folder, stat.S_IMODE(found.st_mode) | mode)
        return False
    os.chmod(folder, mode)  # whatever the umask has taken away
    return True


def _check_ours(folder: str, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise ServiceError(f"{folder} is {kind}, expected a folder: remove it, or choose another name")
    if found.st_uid != os.geteuid():
        raise ServiceError(
            f"the folder {folder} is that of uid {found.st_uid}, and this server runs as uid {os.geteuid()}: choose "
            "another name, or another place by the environment variable MPQUEUE_HOME"
        )
    if found.st_mode & 0o022:
        raise ServiceError(
            f"others may write to the folder {folder} (mode {stat.S_IMODE(found.st_mode):04o}), and could put a socket "
            f"of theirs there: chmod go-w {folder}"
        )


def check_whose(folder: str, uid: int) -> None:
    """Make sure that what lies in a folder was put there by this user: it is his, and nobody else may write to it.

    A link to it may be that user's, this one's, or root's: anybody else's could lead to another server's folder.

    Raises:
        ServiceError: It was not.
        OSError: There is no such folder, or it cannot be reached.
    """
    link, found = os.lstat(folder), os.stat(folder)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in {uid, os.geteuid(), 0}:
        _refuse(folder, uid, f"a link that uid {link.st_uid} has made", link.st_uid)
    if found.st_uid != uid:
        _refuse(folder, uid, f"that of uid {found.st_uid}", found.st_uid)
    if found.st_mode & 0o022 and stat.S_ISDIR(found.st_mode):
        raise ServiceError(
            f"others may write to the folder {folder} (mode {stat.S_IMODE(found.st_mode):04o}), and could have put a "
            f"socket of theirs there: chmod go-w {folder}"
        )


def _refuse(folder: str, uid: int, what: str, other: int) -> NoReturn:
    whose = "this user" if uid == os.geteuid() else "that user"
    raise ServiceError(
        f"the folder {folder} is {what}, and a server of uid {uid} is looked for: if you mean the server of uid "
        f"{other}, say uid={other}; else have {whose}'s server use another name, or another place by the environment "
        "variable MPQUEUE_HOME"
    )


def check_file(
    fd: int,
    path: str,
    owners: set[int],
    error: type[Exception],
    remedy: str,
    *,
    kind: str = "",
    process: str = "process",
) -> None:
    """Make sure that nobody but ``owners`` can have written an open file, else raise ``error``.

    What is asked is the open file: a name that is looked at first may lead elsewhere by the time it is opened.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{kind}{path} is no regular file: {remedy}")
    if found.st_uid not in owners:
        here = f"this {process} runs as uid {os.geteuid()}"
        raise error(f"{kind}{path} is that of uid {found.st_uid}, and {here}: {remedy}")
    if found.st_mode & 0o022:
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        trust = f"if you trust what it says, chmod go-w {path}"
        raise error(f"others may write to {kind}{path} ({mode}): {trust}, else {remedy}")
