"""Ends the stack when its runner is killed: a tiny process that waits for the runner's end of a pipe to close.

Not PR_SET_PDEATHSIG: the kernel sends that once per thread of the dying parent, so a process may get several SIGTERMs,
and Azurite loses blobs at the second. The guard ends everything once and in order; while it does, it holds the
runner's lock, so that a successor waits instead of doing the same. If the guard is killed too, the successor cleans up.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ORDERLY = b"."


class Guard:
    """The runner's end: as long as this process lives, the pipe is open."""

    def __init__(self, root: Path, home: Path) -> None:
        read_end, self._write_end = os.pipe()  # not inherited: only the runner holds the other end
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local.guard", str(home)],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=root,
                start_new_session=True,
            )
        finally:
            os.close(read_end)

    def dismiss(self) -> None:
        """The runner ends in an orderly way: there is nothing to guard."""
        with contextlib.suppress(BrokenPipeError):  # the guard was killed
            os.write(self._write_end, ORDERLY)
        os.close(self._write_end)
        self._process.wait()


def main() -> None:
    """Wait; if the runner went without a word, end what it left."""
    if os.read(0, 1) == ORDERLY:
        return
    # Imported only now: while all is well the guard should be small.
    import asyncio
    import logging

    from deploy.local.logfiles import log_path
    from deploy.local.stopping import clear_remains

    home = Path(sys.argv[1])
    logging.basicConfig(
        filename=log_path(home, "runner"), level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("deploy.local").error("the runner was killed; ending what it left")
    asyncio.run(clear_remains(home))


if __name__ == "__main__":
    main()
