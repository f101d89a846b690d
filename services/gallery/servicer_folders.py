"""The RPCs of folders: a part of `GalleryServicer`."""

from typing import Any

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import current_caller
from services.common.pages import read_page
from services.gallery import convert_folders
from services.gallery.convert import refuse_nul
from services.gallery.convert_folders import folder_id_of, folder_message
from services.gallery.folder_tree import FolderTree

Context = grpc.aio.ServicerContext[Any, Any]


class FolderMethods:
    """Create, get, list, rename and delete."""

    _folders: FolderTree

    async def CreateFolder(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.CreateFolderRequest, context: Context
    ) -> pb.Folder:
        refuse_nul(request)
        return folder_message(await self._folders.create(current_caller().principal, request.folder.path))

    async def GetFolder(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetFolderRequest, context: Context
    ) -> pb.Folder:
        return folder_message(await self._folders.get(current_caller().principal, folder_id_of(request.name)))

    async def ListFolders(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListFoldersRequest, context: Context
    ) -> pb.ListFoldersResponse:
        page = read_page(
            request,
            default_size=convert_folders.DEFAULT_LISTED_FOLDERS,
            max_size=convert_folders.MAX_LISTED_FOLDERS,
            keys=convert_folders.PAGE_KEYS,
        )
        above, after = convert_folders.above_of(request), convert_folders.position_of(page)
        owner = current_caller().principal
        beginning, found = await self._folders.list_page(owner, below=above, after=after, size=page.size + 1)
        return convert_folders.list_response(found, page, beginning)

    async def RenameFolder(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.RenameFolderRequest, context: Context
    ) -> pb.Folder:
        refuse_nul(request)
        owner, folder_id = current_caller().principal, folder_id_of(request.name)
        return folder_message(await self._folders.rename(owner, folder_id, request.new_path, etag=request.etag))

    async def DeleteFolder(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.DeleteFolderRequest, context: Context
    ) -> Empty:
        folder_id, contents = folder_id_of(request.name), convert_folders.contents_of(request)
        await self._folders.delete(current_caller().principal, folder_id, contents)
        return Empty()
