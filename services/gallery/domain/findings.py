"""What `verify` finds, and what to do about each."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong."""

    ORIGINAL_MISSING = "original_missing"
    ORIGINAL_DIFFERS = "original_differs"
    DOCUMENT_MISSING = "document_missing"
    DOCUMENT_UNREADABLE = "document_unreadable"
    DOCUMENT_DIFFERS = "document_differs"
    DOCUMENT_BEHIND = "document_behind"
    BYTES_WITHOUT_ROW = "bytes_without_row"
    BYTES_OF_PURGED = "bytes_of_purged"
    DERIVATIVE_MISSING = "derivative_missing"
    DERIVATIVE_UNRECORDED = "derivative_unrecorded"
    DERIVATIVES_GIVEN_UP = "derivatives_given_up"
    BLOB_UNKNOWN = "blob_unknown"
    FOLDER_MISSING = "folder_missing"
    FOLDER_DOCUMENT_ASTRAY = "folder_document_astray"
    COUNT_WRONG = "count_wrong"


NOTES = frozenset({Kind.DERIVATIVES_GIVEN_UP})
"""No damage: worth knowing, and nothing that is lost."""

_WRITE_AGAIN = "UPDATE gallery.{table} SET document_revision = 0 WHERE id = '{id}' has the gallery write it again"

ADVICE = {
    Kind.ORIGINAL_MISSING: "restore the blob from a backup of storage, or delete and purge the asset",
    Kind.ORIGINAL_DIFFERS: "restore the blob from a backup of storage, or delete and purge the asset",
    Kind.DOCUMENT_MISSING: _WRITE_AGAIN,
    Kind.DOCUMENT_UNREADABLE: _WRITE_AGAIN,
    Kind.DOCUMENT_DIFFERS: _WRITE_AGAIN + "; one newer than the row stays: rebuild-index restores the row",
    Kind.DOCUMENT_BEHIND: "see that a gallery runs and can write to storage: it follows within seconds",
    Kind.BYTES_WITHOUT_ROW: "where its asset.json is there, rebuild-index brings the asset back; else delete the blobs",
    Kind.BYTES_OF_PURGED: "UPDATE gallery.asset_removal SET remove_time = NULL WHERE asset_id = '{id}' "
    "has the gallery remove them",
    Kind.FOLDER_DOCUMENT_ASTRAY: "INSERT INTO gallery.folder_removal (folder_id) VALUES ('{id}') "
    "has the gallery remove it",
    Kind.DERIVATIVE_MISSING: "UPDATE gallery.asset SET variants = '{{}}', derive_time = now(), derive_attempts = 0 "
    "WHERE id = '{id}' has them made again",
    Kind.DERIVATIVE_UNRECORDED: "UPDATE gallery.asset SET derive_time = now(), derive_attempts = 0 "
    "WHERE id = '{id}' has it made and written down again",
    Kind.DERIVATIVES_GIVEN_UP: "nothing: it is tried again once a day; UPDATE gallery.asset SET derive_time = now(), "
    "derive_attempts = 0 WHERE id = '{id}' has it tried at once",
    Kind.BLOB_UNKNOWN: "the gallery never wrote it: delete the blob, or move it elsewhere",
    Kind.FOLDER_MISSING: "rebuild-index makes the folder again where asset.json tells its path; or move the asset",
    Kind.COUNT_WRONG: "rebuild-index counts anew",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `what` is a resource name or a blob's; `advice` says what to do."""

    kind: Kind
    what: str
    detail: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.what}: {self.detail}; to do: {self.advice}"


def finding(kind: Kind, what: str, detail: str, *, item_id: str = "", table: str = "asset") -> Finding:
    """A finding with its advice; `item_id` and `table` are of the row that it is about."""
    return Finding(kind, what, detail, ADVICE[kind].format(id=item_id, table=table))
