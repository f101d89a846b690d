"""A whole runner on stand-ins, as a program: ``standin_stack.py HOME PORT [--unguarded]``.

Three processes: store on PORT, worker on PORT+1, front on PORT+2. With ``--unguarded`` they outlive a runner that is
killed, as they do when its guard is killed too.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local.console import speak
from deploy.local.runner import Runner
from deploy.local.settings import Settings
from deploy.local.spec import ProcessSpec
from tests.deploy.local.support import settings_for, standin


def main() -> None:
    home, port = Path(sys.argv[1]), int(sys.argv[2])

    async def table(_: Settings) -> Sequence[ProcessSpec]:
        return (
            standin(home, "store", port),
            standin(home, "worker", port + 1, after=["store"]),
            standin(home, "front", port + 2, after=["worker"]),
        )

    speak(to_terminal=True)
    asyncio.run(Runner(settings_for(home), table, guarded="--unguarded" not in sys.argv).run())


if __name__ == "__main__":
    main()
