"""Folders: every call on behalf of one owner."""

from datetime import timedelta

from services.gallery.adapters.folder_tree import Folders
from services.gallery.domain.folders import Contents, FolderPath, FolderRecord, FolderRef, check_path


class FolderTree:
    """The folders of the gallery. `retention`: how long assets that are deleted with their folder are kept."""

    def __init__(self, folders: Folders, *, retention: timedelta) -> None:
        self._folders = folders
        self._retention = retention

    async def create(self, owner: str, path: str) -> FolderRecord:
        """Creates a folder and its missing parents.

        Raises:
            InvalidArgument: INVALID_FOLDER_PATH.
            AlreadyExists: FOLDER_EXISTS.
        """
        return await self._folders.create(owner, FolderPath(check_path(path, field="folder.path")))

    async def get(self, owner: str, folder_id: str) -> FolderRecord:
        """One folder.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        return await self._folders.get(owner, folder_id)

    async def list_page(
        self, owner: str, *, below: FolderRef | None, after: str | None, size: int
    ) -> tuple[str, list[FolderRecord]]:
        """Folders by path, and what all of these paths begin with: see `Folders.list_page`."""
        return await self._folders.list_page(owner, below=below, after=after, size=size)

    async def rename(self, owner: str, folder_id: str, new_path: str, *, etag: str) -> FolderRecord:
        """Gives a folder another path: see `Folders.rename`."""
        return await self._folders.rename(owner, folder_id, new_path, etag=etag)

    async def delete(self, owner: str, folder_id: str, contents: Contents) -> None:
        """Deletes a folder by the rule for its contents, a large one in steps: see `Folders.delete_step`.

        Between the steps others may change the folder. Whatever ends this call, each step is whole, and calling again
        goes on.
        """
        while not await self._folders.delete_step(owner, folder_id, contents, retention=self._retention):
            pass
