"""A process that stands in for a part of the suite: listens, notes what happens to it, ends on SIGTERM.

Run as a program: ``standin.py NAME PORT JOURNAL [--delay S] [--deaf] [--stubborn] [--dies CODE]``.
"""

import argparse
import os
import signal
import socket
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("journal")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument("--lingers", type=float, default=0.0, help="seconds that it takes to end")
    parser.add_argument("--deaf", action="store_true", help="never listens")
    parser.add_argument("--stubborn", action="store_true", help="ignores SIGTERM")
    parser.add_argument("--dies", type=int, help="says why and exits with this code")
    options = parser.parse_args()

    def note(event: str) -> None:
        line = f"{time.monotonic_ns()} {options.name} {event} {os.getpid()}\n".encode()
        journal = os.open(options.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(journal, line)
        os.close(journal)

    def end(signum: int, _: object) -> None:
        note("asked")
        time.sleep(options.lingers)
        note("ended")
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.stubborn else end)
    note("started")
    if options.dies is not None:
        sys.stdout.write("standin: the flux capacitor is missing\n")
        sys.exit(options.dies)
    time.sleep(options.delay)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    if not options.deaf:
        note("listens")
        listener.listen()
    while True:
        if options.deaf:
            time.sleep(1)
        else:
            listener.accept()[0].close()


if __name__ == "__main__":
    main()
