"""The gallery's errors, each made in one place: reason, words and metadata as the contract promises them."""

from services.common.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    QuotaViolation,
    Reason,
    Resource,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    Unimplemented,
)

ASSET_TYPE = "gallery.contentlab.dev/Asset"
FOLDER_TYPE = "gallery.contentlab.dev/Folder"
UPLOAD_TYPE = "gallery.contentlab.dev/Upload"

HTTP_CODES = {"LENGTH_REQUIRED": 411, "UPLOAD_TOO_LARGE": 413, "RANGE_NOT_SATISFIABLE": 416}
"""Reasons for which HTTP has a better code than the one that follows from the gRPC code."""


def asset_not_found(name: str) -> NotFound:
    """Also for what belongs to somebody else."""
    return NotFound(
        "ASSET_NOT_FOUND", f"There is no asset {name}.", metadata={"name": name}, resource=Resource(ASSET_TYPE, name)
    )


def asset_exists(name: str) -> AlreadyExists:
    """Says nothing about the asset that is there: it may be another owner's."""
    return AlreadyExists(
        "ASSET_EXISTS",
        f"{name} exists with other content.",
        metadata={"name": name},
        resource=Resource(ASSET_TYPE, name),
    )


def asset_purged(name: str) -> FailedPrecondition:
    """Its owner has removed it for good; an upload that is sent again must not bring it back."""
    return FailedPrecondition(
        "ASSET_PURGED",
        f"{name} was purged; its id is not used again.",
        metadata={"name": name},
        resource=Resource(ASSET_TYPE, name),
    )


def purge_of_kept(name: str) -> FailedPrecondition:
    """Only what was soft-deleted before can be purged."""
    return FailedPrecondition(
        "ASSET_NOT_DELETED", f"{name} is not deleted; delete it first.", resource=Resource(ASSET_TYPE, name)
    )


def being_removed(name: str) -> Unavailable:
    """What an upload left behind under this id is on its way out."""
    return Unavailable(
        Reason.UNAVAILABLE,
        f"The leftovers of an earlier upload of {name} are being removed; try again.",
        retry_safe=True,
        retry_after=2.0,
    )


def upload_given_up() -> Unavailable:
    """It took longer than uploads may, and the sweep has taken its bytes, or it was purged meanwhile."""
    return Unavailable(
        Reason.UNAVAILABLE, "The upload took too long and was given up; try again.", retry_safe=True, retry_after=2.0
    )


def etag_mismatch(name: str) -> Aborted:
    """The caller has not seen the latest state."""
    return Aborted("ETAG_MISMATCH", f"{name} has changed since this etag was given; get it again.")


def asset_not_deleted(name: str) -> AlreadyExists:
    """There is nothing to bring back."""
    return AlreadyExists("ASSET_NOT_DELETED", f"{name} is not deleted.", resource=Resource(ASSET_TYPE, name))


def request_id_reused() -> InvalidArgument:
    """The id stands for an annotation with another content, which has been counted."""
    return InvalidArgument("REQUEST_ID_REUSED", "This request id was used for another annotation of this asset.")


def too_many_tags(name: str, count: int, limit: int) -> InvalidArgument:
    """With the tags added the asset would have more than it may."""
    error = InvalidArgument.field("add_tags", f"{name} would have {count} tags, and may have {limit}")
    error.metadata["name"] = name
    return error


def variant_not_found(name: str, variant: str) -> NotFound:
    """This asset can never have it: a still image has no poster."""
    return NotFound(
        "VARIANT_NOT_FOUND",
        f"{name} has no variant {variant}.",
        metadata={"variant": variant},
        resource=Resource(ASSET_TYPE, name),
    )


def derivative_not_made() -> Unavailable:
    """It takes longer than a request may wait, or did not work this time."""
    return Unavailable(Reason.UNAVAILABLE, "This variant is not made yet; try again.", retry_safe=True, retry_after=5.0)


def not_implemented(field: str, what: str) -> Unimplemented:
    """A field of the contract that this server does not serve yet; ignoring it would give a wrong answer."""
    return Unimplemented(Reason.NOT_IMPLEMENTED, f"{field}: {what} is not implemented yet.", metadata={"field": field})


def folder_not_found(folder: str) -> NotFound:
    """Also for what belongs to somebody else; `folder` is the name or path that was asked for."""
    return NotFound(
        "FOLDER_NOT_FOUND",
        f"There is no folder {folder}.",
        metadata={"folder": folder},
        resource=Resource(FOLDER_TYPE, folder),
    )


def folder_exists(path: str) -> AlreadyExists:
    """The path is taken by another of the caller's folders."""
    return AlreadyExists(
        "FOLDER_EXISTS",
        f"There is a folder {path}.",
        metadata={"path": path},
        resource=Resource(FOLDER_TYPE, path),
    )


def folder_not_empty(name: str) -> FailedPrecondition:
    """It has assets or folders, and the caller has not said what to do with them."""
    return FailedPrecondition(
        "FOLDER_NOT_EMPTY",
        f"{name} has contents: say with `contents` what shall become of them.",
        resource=Resource(FOLDER_TYPE, name),
    )


def too_many_folders(name: str, limit: int) -> FailedPrecondition:
    """So many documents would have to follow that others' would wait for long."""
    return FailedPrecondition(
        "TOO_MANY_FOLDERS",
        f"More than {limit} folders would move with {name}; move those below it one by one first.",
        metadata={"maxFolders": str(limit)},
        resource=Resource(FOLDER_TYPE, name),
    )


def invalid_folder_path(field: str, description: str) -> InvalidArgument:
    """The path breaks a rule of folder paths."""
    return InvalidArgument.field(field, description, "INVALID_FOLDER_PATH")


def field_reserved(field: str) -> PermissionDenied:
    """Only a service of the suite can know what this field claims."""
    return PermissionDenied(
        "FIELD_RESERVED", f"{field}: only services of the suite may set this field.", metadata={"field": field}
    )


def upload_out_of_order(description: str) -> InvalidArgument:
    """The stream's messages break the protocol."""
    return InvalidArgument("UPLOAD_OUT_OF_ORDER", description)


def upload_incomplete(declared: int, received: int) -> InvalidArgument:
    """More or fewer bytes than declared. Sending all of them is always safe: nothing was stored."""
    return InvalidArgument(
        "UPLOAD_INCOMPLETE",
        f"{declared} bytes were declared and {received} arrived; nothing was stored.",
        metadata={"declaredBytes": str(declared), "receivedBytes": str(received)},
    )


def checksum_mismatch(declared: str, actual: str) -> InvalidArgument:
    """The bytes are not those that the caller meant."""
    return InvalidArgument(
        "CHECKSUM_MISMATCH",
        "The bytes have another SHA-256 than declared; nothing was stored.",
        metadata={"declared": declared, "actual": actual},
    )


def length_required() -> InvalidArgument:
    """Without length or hash a cut connection looks like the end of the file."""
    return InvalidArgument("LENGTH_REQUIRED", "Send a Content-Length, or the SHA-256 of the body as sha256.")


def upload_too_large(limit: int) -> InvalidArgument:
    """More bytes than the setting allows."""
    return InvalidArgument(
        "UPLOAD_TOO_LARGE", f"An upload has at most {limit} bytes.", metadata={"maxBytes": str(limit)}
    )


def unsupported_media(description: str) -> InvalidArgument:
    """`description` is our own sentence, never a decoder's message."""
    return InvalidArgument("UNSUPPORTED_MEDIA", description)


def image_too_large(limit: int) -> InvalidArgument:
    """More pixels than the setting allows, by the header alone."""
    return InvalidArgument(
        "IMAGE_TOO_LARGE", f"An image has at most {limit} pixels.", metadata={"maxPixels": str(limit)}
    )


def range_not_satisfiable(size_bytes: int) -> OutOfRange:
    """The range begins behind the last byte."""
    return OutOfRange(
        "RANGE_NOT_SATISFIABLE",
        f"The range lies outside the {size_bytes} bytes.",
        metadata={"sizeBytes": str(size_bytes)},
    )


def upload_outcome_unknown(*, retry_safe: bool) -> Unavailable:
    """Time ran out when everything but the acknowledgement of the commit was there."""
    return Unavailable(
        Reason.UNAVAILABLE,
        "The upload took too long, and may have been stored or not; look before you send it again.",
        retry_safe=retry_safe,
        retry_after=2.0,
    )


def list_too_slow(seconds: float) -> DeadlineExceeded:
    """Filters that are met by many assets each, and by hardly any together."""
    return DeadlineExceeded(
        Reason.DEADLINE_EXCEEDED,
        f"Looking for this took longer than {seconds:g} s; ask for less at once, such as a shorter time.",
        retry_safe=True,
    )


def library_busy() -> Unavailable:
    """Somebody else held the owner's library for as long as we wait; nothing was changed."""
    return Unavailable(
        Reason.UNAVAILABLE,
        "This library is busy with other changes, and nothing was changed; try again.",
        retry_safe=True,
        retry_after=1.0,
    )


def storage_unavailable(*, retry_safe: bool = True) -> Unavailable:
    """Blob storage did not answer in time, after retries. Nothing was committed, so a repeat does nothing twice."""
    return Unavailable(
        "STORAGE_UNAVAILABLE",
        "Blob storage is not reachable for the moment; nothing was changed.",
        retry_safe=retry_safe,
        retry_after=1.0,
    )


def document_contended(name: str) -> Unavailable:
    """Another process has just written a newer one, or writes it at the same time; the row stays behind meanwhile."""
    return Unavailable(
        Reason.UNAVAILABLE, f"The document of {name} is being written; try again.", retry_safe=True, retry_after=1.0
    )


def uploads_busy(*, own: bool = False) -> Unavailable:
    """All upload slots stayed taken for as long as we wait; `own`: all that one caller may have, by the caller's."""
    whose = "of yours are" if own else "are"
    return Unavailable(
        Reason.UNAVAILABLE, f"Too many uploads {whose} under way; try again.", retry_safe=True, retry_after=2.0
    )


def no_room_for_upload() -> Unavailable:
    """The disk for bytes under way is full or broken."""
    return Unavailable(
        Reason.UNAVAILABLE, "There is no room for this upload for the moment.", retry_safe=True, retry_after=5.0
    )


def not_inspected(description: str) -> Unavailable:
    """We did not get to the end of the file: it may be the file's fault, or this machine's, or its limits'.

    Never a refusal for good: the bytes may be somebody's only copy of a picture that was paid for. Seldom worth a
    repetition soon, because each costs as much as the last.
    """
    return Unavailable(
        Reason.UNAVAILABLE, f"{description} It was not stored; try again later.", retry_safe=True, retry_after=60.0
    )


def upload_too_slow(idle_seconds: float, minimum_rate: int) -> DeadlineExceeded:
    """The client rests or trickles, and others wait for its turn."""
    return DeadlineExceeded(
        Reason.DEADLINE_EXCEEDED,
        f"The upload came too slowly: it may rest for {idle_seconds:g} s, and needs {minimum_rate} bytes a second.",
        metadata={"minimumBytesPerSecond": str(minimum_rate)},
        retry_safe=True,
    )


def upload_not_found(name: str) -> NotFound:
    """Also for what belongs to somebody else, and for what was swept away."""
    return NotFound(
        "UPLOAD_NOT_FOUND", f"There is no upload {name}.", metadata={"name": name}, resource=Resource(UPLOAD_TYPE, name)
    )


def upload_expired(name: str) -> FailedPrecondition:
    """What was staged is swept away; a new upload has to be opened."""
    return FailedPrecondition("UPLOAD_EXPIRED", f"The time of {name} is over; open a new upload.")


def upload_changed(declared: int) -> InvalidArgument:
    """The link still lives, and somebody wrote through it while the bytes were being read."""
    return InvalidArgument(
        "UPLOAD_INCOMPLETE",
        "The staged bytes changed while they were read; nothing was stored.",
        metadata={"declaredBytes": str(declared), "receivedBytes": "0"},
        retry_safe=True,
    )


def too_many_uploads(owner: str, limit: int) -> ResourceExhausted:
    """So many links of the owner's can write; completing an upload ends none of them."""
    return ResourceExhausted(
        "TOO_MANY_UPLOADS",
        f"At most {limit} links of uploads may live at a time; wait until some expire.",
        metadata={"maxOpenUploads": str(limit)},
        quota=[QuotaViolation(owner, f"at most {limit} links of uploads at a time")],
        retry_safe=True,
        retry_after=60.0,
    )


def links_not_configured() -> FailedPrecondition:
    """Storage is signed in to with a signature, or by an identity that may not have a key for links."""
    return FailedPrecondition(
        "LINKS_NOT_CONFIGURED",
        "This gallery cannot sign links: it has neither an account key nor an identity that may have a key for them.",
    )


def stalled(what: str, seconds: float) -> DeadlineExceeded:
    """The peer neither sent nor read for `seconds`."""
    return DeadlineExceeded(Reason.DEADLINE_EXCEEDED, f"{what} for {seconds:g} s.", retry_safe=True)


def invalid_resume_token() -> InvalidArgument:
    """Garbage, or a token that somebody else was given."""
    return InvalidArgument.field(
        "resume_token", "is not a token that this caller was given; watch without it", "INVALID_RESUME_TOKEN"
    )


def resume_token_expired() -> OutOfRange:
    """What happened since may be known no more: the token is too old, or of a database that was lost or restored."""
    return OutOfRange(
        "RESUME_TOKEN_EXPIRED", "What happened since this token is not known any more: list again, then watch without."
    )


def too_many_watchers(limit: int) -> ResourceExhausted:
    """The caller has as many streams as one may have. Closing one makes room."""
    return ResourceExhausted(
        "TOO_MANY_WATCHERS",
        f"A caller may watch {limit} times at once.",
        metadata={"limit": str(limit)},
        retry_safe=True,
        retry_after=5.0,
        quota=[QuotaViolation("watchers", f"at most {limit} at once for each caller")],
    )


def watchers_busy() -> Unavailable:
    """This process serves as many streams as it can."""
    return Unavailable(
        Reason.UNAVAILABLE, "Too many callers are watching; try again.", retry_safe=True, retry_after=2.0
    )


def watch_ended(why: str) -> Unavailable:
    """Nothing is lost: the last token goes on, here or at another process."""
    return Unavailable(
        Reason.UNAVAILABLE, f"{why}; watch again with the last resume token.", retry_safe=True, retry_after=1.0
    )


def http_headers(error: ServiceError) -> dict[str, str]:
    """What the gateway needs to answer in HTTP's own words."""
    if error.reason not in HTTP_CODES:
        return {}
    headers = {"x-http-code": str(HTTP_CODES[error.reason])}
    if size := error.metadata.get("sizeBytes"):
        headers["content-range"] = f"bytes */{size}"
    return headers
