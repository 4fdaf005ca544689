"""The kernel's description of the control groups of this process, replaced by files of a test."""

from mpqueue.system.processes import limits

MOUNT = "30 23 0:26 {root} {place} rw,nosuid shared:4 - {kind} {kind} rw,{options}\n"


def show_groups(monkeypatch, folder, own, *mounts):
    """Describe a process in some control groups.

    Args:
        monkeypatch: The fixture of pytest.
        folder: Folder for the two files.
        own: Content of /proc/self/cgroup.
        mounts: Trees as tuples of their root, place, kind and options.
    """
    for attribute, text in ("_OWN", own), ("_MOUNTS", "".join(MOUNT.format(**mounted(*mount)) for mount in mounts)):
        (folder / attribute).write_text(text)
        monkeypatch.setattr(limits, attribute, folder / attribute)
    limits._folders.cache_clear()


def mounted(root, position, kind="cgroup2", options="nsdelegate"):
    return {"root": root, "place": str(position).replace(" ", r"\040"), "kind": kind, "options": options}
