"""Folders that only this user can write to."""

import os
import stat

from mpqueue.errors import ServiceError


def base_of(uid: int) -> str:
    """Return the default folder of all servers of a user."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # Check the owner: after `su`, the variable may still name the previous user's folder.
    if uid == os.geteuid() and os.path.isabs(runtime) and _is_ours(runtime):
        return os.path.join(runtime, "mpqueue")
    import tempfile  # takes 3 ms

    return os.path.join(os.path.abspath(tempfile.gettempdir()), f"mpqueue-{uid}")


def _is_ours(folder: str) -> bool:
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def make_or_check(folder: str, mode: int) -> bool:
    """Create a folder, or check that an existing one is private to this user; return whether it was created.

    Raises:
        ServiceError: The existing folder is not private to this user.
    """
    try:
        os.mkdir(folder, mode)
    except FileExistsError:
        # Not `os.stat`: in a folder of all users, another user could have put a link there, which leads elsewhere.
        status = os.lstat(folder)
        _check_ours(folder, status)
        if mode & ~status.st_mode:
            os.chmod(folder, stat.S_IMODE(status.st_mode) | mode)
        return False
    os.chmod(folder, mode)  # the umask may have removed permissions
    return True


def _check_ours(folder: str, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a file"
        raise ServiceError(f"{folder} is {kind}, expected a folder: remove it, or choose another name")
    if status.st_uid != os.geteuid():
        raise ServiceError(
            f"the folder {folder} belongs to uid {status.st_uid}, but this server runs as uid {os.geteuid()}: choose "
            "another name, or another location by the environment variable MPQUEUE_HOME"
        )
    _check_writers(folder, status)


def _check_writers(folder: str, status: os.stat_result) -> None:
    if status.st_mode & 0o022 and stat.S_ISDIR(status.st_mode):
        raise ServiceError(
            f"other users may write to the folder {folder} (mode {stat.S_IMODE(status.st_mode):04o}), and could "
            f"replace its sockets: run chmod go-w {folder}"
        )


def check_whose(folder: str, uid: int) -> None:
    """Check that only this user can have created the contents of a folder: no other user may own it or write to it.

    A link to it may belong to that user, to the caller, or to root: another user's link could lead elsewhere.

    Raises:
        ServiceError: Another user could have created the contents.
        OSError: The folder does not exist, or cannot be accessed.
    """
    link, status = os.lstat(folder), os.stat(folder)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in {uid, os.geteuid(), 0}:
        problem, other = "is a link that uid {} has created", link.st_uid
    elif status.st_uid != uid:
        problem, other = "belongs to uid {}", status.st_uid
    else:
        _check_writers(folder, status)
        return
    user = "this user" if uid == os.geteuid() else "that user"
    raise ServiceError(
        f"the folder {folder} {problem.format(other)}, expected a server of uid {uid}. To use the server of uid "
        f"{other}, pass uid={other}. Otherwise, have {user}'s server use another name, or another location by the "
        "environment variable MPQUEUE_HOME"
    )
