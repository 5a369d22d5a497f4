"""Who may write a file or a directory, as far as its mode and its group say."""

from __future__ import annotations

import os
import stat

__all__ = ["is_our_group", "others_may_write"]


def others_may_write(found: os.stat_result) -> bool:
    """Whether users other than its owner may write it, unless they are of a group of this process.

    Kubernetes gives each directory of a volume with `fsGroup` the mode 2770, and each file 0660, at every mount:
    https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
    """
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not is_our_group(found.st_gid)


def is_our_group(group: int) -> bool:
    """Whether this process is of that group."""
    return group == os.getegid() or group in os.getgroups()
