"""Puts a finished folder in the place of another one."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def exchange(a: str, b: str) -> bool:
    """Give two existing paths each other's content in one step. ``False``: this system or file system cannot.

    Linux only (``renameat2``); NFS and most network file systems cannot, nor does macOS by this call.

    :raises OSError: it can, but not these (permission, not there, ...).
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), a, None, b)


def sync_tree(folder: str) -> None:
    """Bring every file and folder below to the disk."""
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(os.path.join(where, name))
        sync(where)


def sync(path: str) -> None:
    """Bring one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems: no fsync of a folder
            raise
    finally:
        os.close(descriptor)
