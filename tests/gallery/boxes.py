"""Taking MP4 files apart and putting them together wrongly (ISO/IEC 14496-12)."""

import struct

CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts"})


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def full_box(kind: bytes, data: bytes) -> bytes:
    """With version 0 and no flags."""
    return box(kind, bytes(4) + data)


def edited(file: bytes, kind: bytes, replacement: bytes) -> bytes:
    """The file with every box of this kind replaced; the boxes around it keep in step."""
    parts = []
    at = 0
    while at < len(file):
        length = struct.unpack(">I", file[at : at + 4])[0]
        name, data = file[at + 4 : at + 8], file[at + 8 : at + length]
        if name == kind:
            parts.append(replacement)
        elif name in CONTAINERS:
            parts.append(box(name, edited(data, kind, replacement)))
        else:
            parts.append(file[at : at + length])
        at += length
    return b"".join(parts)


def without(file: bytes, kind: bytes) -> bytes:
    return edited(file, kind, b"")


def box_of(file: bytes, kind: bytes) -> bytes:
    """The first box of this kind, whole."""
    at = file.index(kind) - 4
    return file[at : at + struct.unpack(">I", file[at : at + 4])[0]]
