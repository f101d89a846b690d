"""What may be wrong with a file; raised in the inspection process only."""


class UnknownFormatError(Exception):
    """The bytes are of no accepted format."""


class BrokenFileError(Exception):
    """The bytes begin like an accepted format and cannot be decoded as such."""


class TooManyPixelsError(Exception):
    """The header announces more pixels than the limit; nothing was decoded."""


class NoPictureError(Exception):
    """A video file that has no video in it, such as music."""
