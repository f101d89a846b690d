"""What may be wrong with a file; raised in the inspection process only."""


class UnknownFormatError(Exception):
    """The bytes are of no accepted format."""


class BrokenFileError(Exception):
    """The bytes begin like an accepted format and cannot be decoded as such."""


class TooManyPixelsError(Exception):
    """The header announces more pixels than the limit; nothing was decoded."""


class LargePictureError(Exception):
    """Within the limit, and so large that it has to wait for its turn; nothing was decoded."""


class TooMuchWorkError(Exception):
    """It would take far more work to decode than files of its size do."""


class NoPictureError(Exception):
    """A video file that has no video in it, such as music."""
