"""The gallery: assets, folders, search and bytes. The only part of the suite with storage credentials."""
