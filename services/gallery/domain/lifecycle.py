"""How an asset may change. Each rule takes the asset as it is now and gives the asset as it shall be."""

from dataclasses import replace
from datetime import datetime, timedelta

from services.gallery.domain import failures
from services.gallery.domain.assets import Asset


def check_etag(asset: Asset, etag: str) -> None:
    """Refuses a change of a state that the caller has not seen; no etag: whatever the state is.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    if etag and etag != asset.etag:
        raise failures.etag_mismatch(asset.name)


def soft_delete(asset: Asset, now: datetime, *, retention: timedelta, etag: str = "") -> Asset:
    """Marks the asset as deleted until its purge time.

    An asset that is deleted already stays as it is, so that a repeated call neither fails nor lengthens its life.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    check_etag(asset, etag)
    if asset.delete_time is not None:
        return asset
    return replace(asset, delete_time=now, purge_time=now + retention)
