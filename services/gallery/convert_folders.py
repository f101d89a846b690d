"""Folders, from the contract's terms to the domain's and back. Pure."""

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.names import ResourceName
from services.common.pages import Page, PositionValue
from services.gallery.convert import PAGE_BYTES, refuse_nul
from services.gallery.convert_assets import stamp
from services.gallery.domain.folders import Contents, FolderRecord, FolderRef, parse_folder
from services.gallery.domain.listing import MAX_COUNT

FOLDER = ResourceName("folders/{folder}", id_pattern=r"[a-z0-9-]{1,63}")

DEFAULT_LISTED_FOLDERS = 100
MAX_LISTED_FOLDERS = 1_000
PAGE_KEYS: tuple[type[PositionValue], ...] = (str,)

_CONTENTS = {
    pb.DeleteFolderRequest.CONTENTS_UNSPECIFIED: Contents.REFUSE,
    pb.DeleteFolderRequest.REFUSE: Contents.REFUSE,
    pb.DeleteFolderRequest.MOVE_TO_PARENT: Contents.MOVE_TO_PARENT,
    pb.DeleteFolderRequest.DELETE: Contents.DELETE,
}


def folder_id_of(name: str) -> str:
    """The id in a resource name.

    Raises:
        InvalidArgument: INVALID_RESOURCE_NAME.
    """
    return FOLDER.parse(name)


def above_of(request: pb.ListFoldersRequest) -> FolderRef | None:
    """The folder below which the listed ones are.

    Raises:
        InvalidArgument: INVALID_FIELD, INVALID_FOLDER_PATH.
    """
    refuse_nul(request)
    return parse_folder(request.parent_folder, field="parent_folder")


def position_of(page: Page) -> str | None:
    """The path with which the page before ended, as seen from the listed folder; `page` was read with keys `(str,)`."""
    match page.position:
        case (str() as path,):
            return path
    return None


def contents_of(request: pb.DeleteFolderRequest) -> Contents:
    """What becomes of the contents."""
    return _CONTENTS[request.contents]


def folder_message(folder: FolderRecord) -> pb.Folder:
    """The contract's folder."""
    return pb.Folder(
        name=folder.name,
        path=folder.path,
        owner=folder.owner,
        asset_count=min(folder.asset_count, MAX_COUNT),
        create_time=stamp(folder.create_time),
        update_time=stamp(folder.update_time),
        etag=folder.etag,
    )


def list_response(found: list[FolderRecord], page: Page, beginning: str) -> pb.ListFoldersResponse:
    """A page of what was found, which is one more than the page takes when there is another one.

    The token leaves out the `beginning` of all paths, which a renaming may change.
    """
    response = pb.ListFoldersResponse()
    size = 0
    for folder in found[: page.size]:
        message = folder_message(folder)
        size += message.ByteSize()
        if response.folders and size > PAGE_BYTES:
            break
        response.folders.append(message)
    shown = len(response.folders)
    if shown < len(found):
        response.next_page_token = page.next_token(found[shown - 1].path.removeprefix(beginning))
    return response
