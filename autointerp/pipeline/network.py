"""Whether a file lies on another machine."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/mounts")  # of Linux
_KINDS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "lustre", "gpfs", "beegfs", "ceph",
        "glusterfs", "panfs", "pvfs2", "orangefs", "wekafs", "fuse.sshfs", "fuse.ceph",
        "fuse.glusterfs", "fuse.juicefs",
    }
)  # fmt: skip


def is_on_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path is on a network file system, as far as this machine tells."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    place = path.resolve()
    kinds: dict[Path, str] = {}
    for line in lines:
        _, point, kind = line.split()[:3]
        kinds[Path(point.replace("\\040", " "))] = kind  # the last one hides those before it
    above = [point for point in (place, *place.parents) if point in kinds]
    return bool(above) and kinds[above[0]] in _KINDS
