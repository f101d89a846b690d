"""`_folders/{id}.json`: the folder tree, kept in storage too. See `document.py` for how times are written."""

import json
from datetime import UTC, datetime

from services.gallery.domain.folders import FolderRecord

SCHEMA_VERSION = 1


def to_folder_document(folder: FolderRecord) -> bytes:
    """The document of a folder. How many assets it has is told by their documents."""
    content = {
        "schemaVersion": SCHEMA_VERSION,
        "id": folder.id,
        "owner": folder.owner,
        "path": folder.path,
        "revision": folder.revision,
        "createTime": folder.create_time.astimezone(UTC).isoformat(),
        "updateTime": folder.update_time.astimezone(UTC).isoformat(),
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def from_folder_document(document: bytes) -> FolderRecord:
    """The folder of a document, without assets.

    Raises:
        ValueError, KeyError, TypeError: it is none, or of a version that this code does not know.
    """
    content = json.loads(document)
    if content["schemaVersion"] != SCHEMA_VERSION:
        raise ValueError(f"a folder's document has schema version {content['schemaVersion']}")
    return FolderRecord(
        id=content["id"],
        owner=content["owner"],
        path=content["path"],
        asset_count=0,
        revision=content["revision"],
        create_time=datetime.fromisoformat(content["createTime"]),
        update_time=datetime.fromisoformat(content["updateTime"]),
    )
