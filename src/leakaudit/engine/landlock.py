"""Linux Landlock: a process gives up its access to files, for itself and all its children, without being root.

The numbers are the kernel's interface, stated in its document "Landlock: unprivileged access control"
(docs.kernel.org/userspace-api/landlock.html). Older kernels know fewer rights, so each is used from its version on.
"""

from __future__ import annotations

import ctypes
import glob
import os
import struct
from collections.abc import Iterable
from pathlib import Path

__all__ = ["restrict", "supported_version"]

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many of the low bits of the file-system rights each version knows."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/sys", "/proc/self", "/proc/sys", "/proc/driver")
_SYSTEM_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/devices", "/proc/version")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ACCELERATORS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")


def supported_version() -> int:
    """Return the Landlock version of the running kernel, or 0 when it has none."""
    version = ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(int(version), 0)


def restrict(writable: Iterable[Path], readable: Iterable[Path]) -> bool:
    """Cut this process off from all files but those given, the system's libraries, devices and its own `/proc/self`.

    From kernel version 6.7 on it can open no TCP connection, from 6.12 on it can signal no process outside. Memory of
    outside processes can no longer be read. It cannot be undone. Call it while the process has a single thread.

    Args:
        writable: Folders with full access.
        readable: Files and folders to read and execute.

    Returns:
        Whether the kernel does so; False changes nothing.

    Raises:
        OSError: The kernel knows Landlock and refuses.
    """
    version = supported_version()
    if version == 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    handled = (1 << _RIGHTS_BY_VERSION.get(version, 16)) - 1
    attributes = struct.pack("QQQ", handled, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _checked(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    try:
        for path in [*_SYSTEM, *_SYSTEM_FILES, *map(str, readable)]:
            _allow(libc, ruleset, path, _READ & handled)
        for path in [*_DEVICES, *(device for pattern in _ACCELERATORS for device in glob.glob(pattern))]:
            _allow(libc, ruleset, path, (_READ | _WRITE_FILE | _IOCTL_DEVICE) & handled)
        for folder in writable:
            _allow(libc, ruleset, str(folder), handled)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Add a rule for a path; paths that do not exist need none."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if os.path.isdir(path) else rights & _ON_FILES
        rule = struct.pack("=Qi", allowed, descriptor)
        _checked(
            libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)),
        )
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
