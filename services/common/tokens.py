"""Opaque tokens that clients give back: bytes of ours, and a checksum that ties them to what they were made for.

A token is no secret and no capability: whoever reads this can make one. The checksum refuses those that belong to
another caller or request; what a token lets its bearer see, every query decides anew.
"""

import base64
import hashlib

_CHECKSUM_BYTES = 12


def binding_of(*parts: bytes) -> bytes:
    """What a token is tied to: no two lists of parts give the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()


def encode_token(payload: bytes, binding: bytes) -> str:
    """The token, of letters that need no escape in a URL or a header."""
    return base64.urlsafe_b64encode(_checksum(binding, payload) + payload).decode().rstrip("=")


def decode_token(token: str, binding: bytes) -> bytes:
    """The payload.

    Raises:
        ValueError: no token of ours, or one that was made for something else.
    """
    raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    checksum, payload = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if checksum != _checksum(binding, payload):
        raise ValueError("another checksum")
    return payload


def _checksum(binding: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(binding + payload).digest()[:_CHECKSUM_BYTES]
