"""What a process that decodes cannot do, whatever a file makes of it: here it is Python that tries."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

CONFINED = """
import ctypes, errno, os, resource, socket, subprocess, sys, threading
from services.gallery.adapters.inspection.sandbox import confine
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
source = os.open("/dev/null", os.O_RDONLY)
{before}
assert confine(2 << 30)
def call(number, *arguments):
    if libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
try:
    {attempt}
except Exception as error:
    print(type(error).__name__, getattr(error, "errno", ""))
else:
    print("done")
"""

ATTEMPTS = {
    "a socket": 'socket.create_connection(("127.0.0.1", 9))',
    "a file to write": 'open(sys.argv[1], "w")',
    "a file to append to": 'open(sys.argv[1], "a")',
    "its descriptor again, to write": 'os.open(f"/proc/self/fd/{source}", os.O_RDWR)',
    "openat2": "call(437, -100, 0, 0, 0)",
    "another name of a file": 'os.rename("/proc/self", sys.argv[1])',
    "a file less": "os.unlink(sys.argv[1])",
    "another program": 'os.execv("/bin/true", ["true"])',
    "another process": "os.fork()",
    "the parent's end": "os.kill(parent, 0)",
    "the parent's memory": "call(310, parent, 0, 0, 0, 0, 0)",
    "to trace the parent": "call(101, 16, parent, 0, 0)",
    "the parent's limits": "resource.prlimit(parent, resource.RLIMIT_CPU)",
    "io_uring": "call(425, 1, 0)",
    "the other system call numbers": "call(0x40000000 | 39)",
}


async def confined(attempt: str, argument: str = "", *, before: str = "") -> str:
    code = CONFINED.replace("{attempt}", attempt).replace("{before}", before)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, argument, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, said = await process.communicate()
    return told.decode().strip() or said.decode()


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="the filter is of Linux on x86-64"
)
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=list(ATTEMPTS))
async def test_it_may_not_have(attempt: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    told = await confined(attempt, str(path))
    assert told in {"PermissionError 1", "OSError 38"}
    assert path.exists()


async def test_what_decoding_needs_it_may(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert await confined("open(sys.argv[1], 'rb').read()", str(path)) == "done"
    assert await confined("os.pwrite(target, b'x', 0)", before="target = os.memfd_create('target')") == "done"
    assert await confined("resource.getrlimit(resource.RLIMIT_AS)") == "done"


async def test_it_gets_no_new_privileges_and_few_descriptors() -> None:
    status = 'assert "NoNewPrivs:\\t1" in open("/proc/self/status").read()'
    assert await confined(status) == "done"
    assert await confined("for _ in range(70): os.dup(source)") == "OSError 24"


async def test_who_keeps_memory_private_cannot_be_read_by_others_of_the_same_user() -> None:
    """Root may: so the files' owner is asked, which is who may read them."""
    code = (
        "import os\nfrom services.gallery.adapters.inspection.sandbox import keep_memory_private\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "def owner(): return os.stat(f'/proc/{os.getpid()}/environ').st_uid\n"
        "libc = __import__('ctypes').CDLL(None); libc.prctl(4, 1)\n"
        "print(owner() == os.getuid()); keep_memory_private(); print(owner() == os.getuid())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert told.decode().split() == ["True", "False"]
