"""What a process that decodes hostile files may not do, whatever a file makes of it.

Plain `prctl` (prctl(2)) and a seccomp filter (seccomp(2)): the numbers of system calls are those of x86-64, elsewhere
there is no filter. A decoder reads a descriptor that it was given, computes, and writes to others.
"""

import ctypes
import platform
import resource
import struct
import sys

from services.gallery.domain.variants import MAX_DERIVATIVE_BYTES

MAX_DESCRIPTORS = 64

_SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS, _MODE_FILTER = 4, 22, 38, 2

# Instructions (linux/bpf_common.h, linux/filter.h) and answers (linux/seccomp.h).
_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL, _NOT_PERMITTED, _NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X86_64, _X32 = 0xC000003E, 0x40000000

_OPEN, _OPENAT, _OPENAT2, _CLONE3, _PRLIMIT = 2, 257, 437, 435, 302
_TO_WRITE = 0o3 | 0o100 | 0o1000
"""O_ACCMODE, O_CREAT and O_TRUNC; what is opened to be read has none of them."""

_DENIED = {
    "network": (41, 42, 43, 46, 49, 50, 53, 288, 299, 307),
    "programs, processes and threads": (56, 57, 58, 59, 322),
    "other processes": (62, 101, 129, 200, 234, 297, 310, 311, 312, 424, 434, 438),
    "files by name": (76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 132, 133, 235, 258, 259, 260, 261, 263, 264, 265, 266,
                      268, 280, 316, 452),
    "the system": (155, 161, 165, 166, 248, 249, 250, 272, 298, 304, 308, 321, 323, 425, 426, 427, 428, 429, 430),
}  # fmt: skip
"""socket, connect, accept, sendmsg, bind, listen, ..; clone, fork, vfork, execve, execveat; kill, ptrace, process_vm_*,
pidfd_*; truncate, rename*, mkdir*, link*, unlink*, chmod, chown, utime*, mknod*; mount, namespaces, keys, bpf, and
io_uring_*, which could do all of the above. sendto stays: it is how answers go to the one socket that there is."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def keep_memory_private() -> bool:
    """No process of the same user can read this one's memory or environment, and it leaves no core. False: not here."""
    return _prctl(_SET_DUMPABLE, 0)


def confine(address_space: int) -> bool:
    """Bounds this process for good, after it has loaded what it needs.

    False: bounds on memory, files and privileges hold, but this system has no filter of system calls.
    """
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_DERIVATIVE_BYTES, MAX_DERIVATIVE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return _prctl(_SET_NO_NEW_PRIVS, 1) and _filter()


def _filter() -> bool:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    instructions = b"".join(_instructions())
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return _prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _instructions() -> list[bytes]:
    load, allow = _step(_LOAD, _NUMBER_AT), _step(_RETURN, _ALLOW)
    refuse = _step(_RETURN, _NOT_PERMITTED)
    program = [_step(_LOAD, _ARCHITECTURE_AT), _step(_JUMP_EQUAL, _X86_64, 1, 0), _step(_RETURN, _KILL), load]
    program += [_step(_JUMP_AT_LEAST, _X32, 0, 1), refuse]
    for number in (number for numbers in _DENIED.values() for number in numbers):
        program += [_step(_JUMP_EQUAL, number, 0, 1), refuse]
    for number in (_OPENAT2, _CLONE3):  # a libc falls back on the older calls, whose arguments can be seen
        program += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _NO_SUCH_CALL)]
    for number, argument, mask in ((_OPEN, 1, _TO_WRITE), (_OPENAT, 2, _TO_WRITE), (_PRLIMIT, 0, 0xFFFFFFFF)):
        program += [_step(_JUMP_EQUAL, number, 0, 5), _step(_LOAD, _ARGUMENTS_AT + 8 * argument), _step(_AND, mask)]
        program += [_step(_JUMP_EQUAL, 0, 0, 1), allow, refuse]
    return [*program, allow]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _prctl(option: int, *arguments: int) -> bool:
    if sys.platform != "linux":
        return False
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return bool(ctypes.CDLL(None).prctl(option, *words) == 0)
