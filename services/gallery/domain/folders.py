"""Folder paths: `travel/2026`, Unicode, kept exactly as given."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.gallery.domain import failures

MAX_PATH_CHARACTERS = 1024
MAX_LEVELS = 16

_NAME = re.compile(r"folders/([a-z0-9-]{1,63})")
_BEGINS_AS_NAME = re.compile(r"folders/[a-z0-9-]{1,63}(?:/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class FolderId:
    """A folder by its resource name, `folders/{folder}`; it must exist."""

    id: str

    def __str__(self) -> str:
        return f"folders/{self.id}"


@dataclass(frozen=True, slots=True)
class FolderPath:
    """A folder by its path."""

    path: str

    def __str__(self) -> str:
        return self.path

    def with_parents(self) -> tuple[str, ...]:
        """This path and all above it, from the root down."""
        segments = self.path.split("/")
        return tuple("/".join(segments[: level + 1]) for level in range(len(segments)))


FolderRef = FolderId | FolderPath


@dataclass(frozen=True, slots=True)
class FolderRecord:
    """A folder with all that is known of it; times are UTC, the database's.

    `revision` starts at 1 and grows with every change of the path. `asset_count` counts the assets directly in it,
    deleted ones left out, and is no part of the revision.
    """

    id: str
    owner: str
    path: str
    asset_count: int
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> str:
        """The resource name."""
        return f"folders/{self.id}"

    @property
    def etag(self) -> str:
        """Opaque; another one after every change, also when a revision comes again because the index was restored."""
        return hashlib.sha256(f"{self.id}:{self.revision}:{self.update_time.timestamp()}".encode()).hexdigest()[:16]


class Contents(StrEnum):
    """What becomes of the contents of a folder that is deleted."""

    REFUSE = "refuse"
    MOVE_TO_PARENT = "move_to_parent"
    DELETE = "delete"


def parse_folder(text: str, *, field: str = "folder") -> FolderRef | None:
    """The folder that a request means: none, a name, or a path.

    What looks like a name is one, so no path may begin so.

    Raises:
        InvalidArgument: INVALID_FOLDER_PATH.
    """
    if not text:
        return None
    if name := _NAME.fullmatch(text):
        return FolderId(name.group(1))
    return FolderPath(check_path(text, field=field))


def check_path(path: str, *, field: str = "folder") -> str:
    """The path itself, unchanged.

    Raises:
        InvalidArgument: INVALID_FOLDER_PATH.
    """
    segments = path.split("/")
    if len(path) > MAX_PATH_CHARACTERS:
        raise failures.invalid_folder_path(field, f"must have at most {MAX_PATH_CHARACTERS} characters")
    if len(segments) > MAX_LEVELS:
        raise failures.invalid_folder_path(field, f"must have at most {MAX_LEVELS} levels")
    if not all(segments):
        raise failures.invalid_folder_path(field, "must not have an empty segment, nor begin or end with '/'")
    if not {".", ".."}.isdisjoint(segments):
        raise failures.invalid_folder_path(field, "must not have a segment '.' or '..'")
    if _CONTROL.search(path):
        raise failures.invalid_folder_path(field, "must not have control characters")
    if _BEGINS_AS_NAME.match(path):
        raise failures.invalid_folder_path(field, "must not begin with what looks like the name of a folder")
    return path


def parent_path(path: str) -> str:
    """The path of the folder above; empty at the top."""
    return path.rpartition("/")[0]


def check_renaming(present: FolderRecord, new_path: str, etag: str) -> None:
    """Refuses a path that the folder cannot have, and a change of a state that the caller has not seen.

    Raises:
        Aborted: ETAG_MISMATCH.
        InvalidArgument: INVALID_FOLDER_PATH.
    """
    if etag and etag != present.etag:
        raise failures.etag_mismatch(present.name)
    check_path(new_path, field="new_path")
    if new_path.startswith(present.path + "/"):
        raise failures.invalid_folder_path("new_path", "must not lie below the folder itself")
