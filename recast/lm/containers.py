"""How much memory the container of this process lets it have (Linux control groups, v1 and v2)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

GROUPS = Path("/proc/self/cgroup")
MOUNTS = Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Bytes of the lowest limit of this process's group and the groups around it; None where
    nothing limits it. Source: the kernel's cgroup-v1/memory.rst and cgroup-v2.rst."""
    try:
        lines = GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    found: list[int] = []
    places: tuple[Path, ...]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if number == "0" and not controllers:
            places, name = (MOUNTS, MOUNTS / "unified"), "memory.max"
        elif "memory" in controllers.split(","):
            places, name = (MOUNTS / "memory",), "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the path may be the machine's; then the mount's root is its own group.
        group = PurePosixPath(own.lstrip("/"))
        around = [group, *group.parents] if ".." not in group.parts else [PurePosixPath()]
        found += [n for place in places for part in around if (n := _bytes(place / part / name))]
    return min(found, default=None)


def _bytes(path: Path) -> int:
    """The number in a file; 0 where there is none, or "max"."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
