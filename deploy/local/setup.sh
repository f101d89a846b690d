#!/bin/sh
# Finds a Python and hands over to setup.py: `deploy/local/setup.sh local` or `... dev`.
set -eu
cd "$(dirname "$0")/../.."

# Prints the interpreter itself: a virtual environment's may be replaced under our feet, a shim is slow.
question='import sys, os, venv, ensurepip; sys.version_info >= (3, 11) and print(os.path.realpath(sys.executable))'
for candidate in .venv/bin/python "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
    python=$("$candidate" -c "$question" 2>/dev/null) || continue
    if [ -n "$python" ]; then
        exec "$python" -m deploy.local.setup "$@"
    fi
done

found=$("${PYTHON:-python3}" --version 2>/dev/null || echo "none")
echo "error: AI Content Lab needs Python 3.11 or newer with its venv module; found: $found." >&2
echo "On Debian or Ubuntu: apt-get install python3 python3-venv. Elsewhere: set PYTHON=/path/to/python3." >&2
exit 1
