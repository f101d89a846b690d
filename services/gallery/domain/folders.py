"""Folder paths: `travel/2026`, Unicode, kept exactly as given."""

import re
from dataclasses import dataclass

from services.gallery.domain import failures

MAX_PATH_CHARACTERS = 1024
MAX_LEVELS = 16

_NAME = re.compile(r"folders/([a-z0-9-]{1,63})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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


def parse_folder(text: str, *, field: str = "folder") -> FolderRef | None:
    """The folder that a request means: none, a name, or a path.

    What looks like a name is one, so no path of exactly two segments begins with `folders`.

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
    return path
