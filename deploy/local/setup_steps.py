"""The two things that set-up makes: the virtual environment, and Azurite's packages. Standard library only."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.toolchain import find_node, wheel_node

STEP_SECONDS = 1800
# The Python below any virtual environment, found before one is removed.
BASE_PYTHON = str(Path(sys.executable).resolve())
# Changed when a set-up of an older kind must be done anew.
SCHEME = "1"


class SetupError(RuntimeError):
    """A step failed; the message ends with what the program said."""


class VenvStep:
    """``.venv``: every wheel by hash, through a uv that is itself installed by hash, and a path to the sources."""

    def __init__(self, root: Path, profile: str, *, with_node: bool) -> None:
        self.venv = root / ".venv"
        self._requirements = [root / "requirements" / f"{profile}.txt"]
        if with_node:
            self._requirements.append(root / "requirements" / "node.txt")
        self._root, self._profile = root, profile
        self._bootstrap = root / "requirements" / "bootstrap.txt"
        self._python = self.venv / "bin" / "python"
        # A virtual environment that was copied or moved still runs, but its scripts start the original's Python.
        self._place = self.venv / "contentlab" / "place"
        self._unfinished = self.venv / "contentlab" / "unfinished"

    def is_current(self) -> bool:
        """Whether nothing has to be done."""
        stamp = self._stamp(self._profile)
        return (
            not self._unfinished.exists()
            and self._python.exists()
            and _read(self._place) == str(self.venv)
            and _read(stamp) == self._fingerprint()
            and _read(self._sources_file()) == self._sources()
        )

    def run(self) -> None:
        """Make or mend it. Raises SetupError."""
        if self._must_be_made_anew():
            shutil.rmtree(self.venv, ignore_errors=True)
        self._unfinished.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished.touch()
        if not self._python.exists():
            run([BASE_PYTHON, "-m", "venv", "--without-pip", str(self.venv)])
        self._install()
        self._sources_file().write_text(self._sources(), encoding="utf-8")
        self._place.write_text(str(self.venv), encoding="utf-8")
        # What tests need includes what runs need.
        for profile in {self._profile, "local"}:
            self._stamp(profile).write_text(self._fingerprint(profile), encoding="utf-8")
        self._unfinished.unlink()

    def _must_be_made_anew(self) -> bool:
        if self._unfinished.exists() or _read(self._place) not in (None, str(self.venv)):
            return True
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        works = self._python.exists() and subprocess.run([self._python, "-c", check], check=False).returncode == 0
        return not works

    def _install(self) -> None:
        uv = self.venv / "bin" / "uv"
        bootstrap_stamp = self._stamp("bootstrap")
        if not uv.exists() or _read(bootstrap_stamp) != fingerprint([self._bootstrap]):
            self._install_uv()
            bootstrap_stamp.write_text(fingerprint([self._bootstrap]), encoding="utf-8")
        files = [word for path in self._requirements for word in ("-r", str(path))]
        # Compiled here, while npm waits for the network, and not by the first start of every service at once.
        install = ["pip", "install", "--quiet", "--python", str(self._python), "--compile-bytecode"]
        run([str(uv), *install, "--require-hashes", *files])

    def _install_uv(self) -> None:
        install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        install += ["-r", str(self._bootstrap)]
        variables = {"PIP_USER": "0"}  # somebody's configuration would put it elsewhere
        try:
            # The pip beside the base Python, if there is one: giving the environment its own takes seconds.
            run([BASE_PYTHON, "-m", "pip", "--python", str(self._python), *install], variables)
        except SetupError:
            run([str(self._python), "-m", "ensurepip", "--default-pip"])
            run([str(self._python), "-m", "pip", *install], variables)

    def _fingerprint(self, profile: str | None = None) -> str:
        files = [self._bootstrap, *self._requirements]
        if profile is not None:
            files[1] = self._root / "requirements" / f"{profile}.txt"
        return fingerprint(files)

    def _stamp(self, name: str) -> Path:
        return self.venv / "contentlab" / f"{name}.stamp"

    def _sources_file(self) -> Path:
        return site_packages(self._root) / "contentlab.pth"

    def _sources(self) -> str:
        return f"{self._root}\n{self._root / 'protos' / 'gen'}\n"


class AzuriteStep:
    """Azurite's npm packages, exactly those of the lock, without running any of their install scripts."""

    def __init__(self, root: Path) -> None:
        self._package = root / "deploy" / "local" / "azurite"
        self._root = root
        # npm ci begins by removing node_modules, and this stamp with it.
        self._stamp = self._package / "node_modules" / ".contentlab-stamp"

    def is_current(self) -> bool:
        """Whether nothing has to be done."""
        return _read(self._stamp) == self._fingerprint()

    def run(self) -> None:
        """Install. Raises SetupError."""
        node = find_node(site_packages=site_packages(self._root))
        if node is None:
            raise SetupError("no Node 20 or newer with npm, and the wheel that replaces it is not installed")
        path = f"{node.binary.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        # The lock holds no addresses, so npm asks for each package's page; a cached one will do, since the lock pins.
        options = ["--ignore-scripts", "--prefer-offline", "--no-update-notifier", "--loglevel=error"]
        run([*node.npm, "ci", *options], {"PATH": path}, cwd=self._package)
        self._stamp.parent.mkdir(exist_ok=True)
        self._stamp.write_text(self._fingerprint(), encoding="utf-8")

    def _fingerprint(self) -> str:
        return fingerprint([self._package / "package.json", self._package / "package-lock.json"])


def has_wheel_node(root: Path) -> bool:
    """Whether an earlier set-up has installed the wheel's Node."""
    return wheel_node(site_packages(root)) is not None


def site_packages(root: Path) -> Path:
    """Where the environment's packages are; the name holds the version of Python, so it is known once that is made."""
    return next((root / ".venv" / "lib").glob("python3.*"), root / ".venv" / "lib" / "python3") / "site-packages"


def fingerprint(files: Sequence[Path]) -> str:
    """A hash over the contents of files; times do not count."""
    digest = hashlib.sha256(SCHEME.encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run(command: Sequence[str], variables: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program with the caller's environment (mirrors and certificates are set there). Raises SetupError."""
    environment = {**os.environ, **(variables or {})}
    environment.pop("PYTHONHOME", None)
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=STEP_SECONDS,
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.strip().splitlines()[-30:])
        raise SetupError(f"{' '.join(command[:4])} ... failed ({done.returncode}):\n{said}")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
