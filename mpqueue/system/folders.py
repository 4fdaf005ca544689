"""Folders that belong to this user, and into which nobody else can put anything."""

import os
import stat
import tempfile

from mpqueue.errors import ServiceError


def base_of_this_user() -> str:
    """Return the path of the folder of all servers of this user, who has chosen no other."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # After `su` the variable may still be that of the user before.
    if os.path.isabs(runtime) and _is_ours(runtime):
        return os.path.join(runtime, "mpqueue")
    return os.path.join(os.path.abspath(tempfile.gettempdir()), f"mpqueue-{os.geteuid()}")


def _is_ours(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


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
