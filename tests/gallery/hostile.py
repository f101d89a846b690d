"""Names that break systems, and an opinion of its own on which of them are in order."""

import random
import re
import unicodedata

ATOMS = (
    "..", ".", "...", "", " ", "  x  ", "~", "*", "?", "|", "<script>alert(1)</script>",
    "'; DROP TABLE asset; --", '"', "`id`", "$(id)", "${HOME}", "{{7*7}}", "%s%n", "%", "%2F", "%2e%2e", "%00",
    "%5C", "..%2f..", "..\\..", "C:\\", "\\\\server\\share", "CON", "con", "aux", "NUL", "PRN", "COM1", "LPT9",
    "nul.txt", "CLOCK$", "desktop.ini", ".DS_Store", ".git", "__proto__", "original", "asset.json", "_folders",
    "_staging", "folders", "assets", "abc", "assets:batchGet", "null", "None", "undefined", "true", "0", "-1",
    "1e999", "NaN", "a\0b", "\0", "a\nb", "a\r\nSet-Cookie: x=1", "\t", "\x1b[31m", "\x7f", "\x85", "\x9f",
    "\u00a0", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\u202egnp.exe", "\u2066x\u2069", "\u061c",
    "\u00ad", "e\u0301", "\u00e9", "\u212b", "\u00c5", "\ufb01", "fi", "\u1100\u1161", "\uac00", "İstanbul",
    "ß", "SS", "ı", "Ω", "\u2126", "夜の海", "שלום", "مرحبا", "नमस्ते", "👩‍👩‍👧‍👦", "🏳️‍🌈", "𝒳", "😀",
    "Z̸̡̺̤a̸l̸g̷o̶", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\u0300", "x" * 255, "x" * 256, "x" * 1024,
    "x" * 1025, "夜" * 340, "😀" * 1024, "\u0301" * 300, "file://x", "a:b", "-rf", "--", "#", "&a=b", "a;b",
    "a,b", "=cmd()", "@x", "!x", "\u3000", "\u2215", "\u29f8", "\uff0f", "\u2024\u2024", "．．",
)  # fmt: skip
"""Segments; a path is made of some of them."""


def names(count: int, seed: int) -> list[str]:
    """So many names: every atom, then made up from them."""
    chance = random.Random(seed)
    made = [*ATOMS, *(unicodedata.normalize(form, atom) for form in ("NFC", "NFD", "NFKD") for atom in ATOMS)]
    while len(made) < count:
        made.append("".join(chance.choices(ATOMS, k=chance.randint(1, 4))))
    return _unlike(made)[:count]


def paths(count: int, seed: int) -> list[str]:
    """So many folder paths: every atom at every place, odd slashes, too deep, and made up."""
    chance = random.Random(seed)
    made = [path for atom in ATOMS for path in (atom, f"a/{atom}", f"{atom}/b", f"a/{atom}/b")]
    made += ["/", "//", "a/", "/a", "a//b", "folders/x", "folders/X", "folders/x/y", "folders", "x/folders/y"]
    made += ["/".join("d" * depth) for depth in (15, 16, 17, 100)] + ["y" * 511 + "/" + "y" * 512, "y/" * 511 + "y"]
    made += [chr(code).join("ab") for code in (*range(0xA1), *range(0x2000, 0x2070))]
    while len(made) < count:
        made.append("/".join(chance.choices(ATOMS, k=chance.randint(1, 6))))
    chance.shuffle(made)
    return _unlike(made)[:count]


def _unlike(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def is_name(text: str) -> bool:
    """Whether an asset may be called so; empty is no name but none."""
    return 0 < len(text) <= 255 and "\0" not in text


def is_tag(text: str) -> bool:
    """Whether it is a tag."""
    return 0 < len(text) <= 64 and "\0" not in text


def is_path(text: str) -> bool:
    """Whether a folder may have this path."""
    segments = text.split("/")
    return (
        0 < len(text) <= 1024
        and len(segments) <= 16
        and not {"", ".", ".."} & set(segments)
        and all(ord(character) >= 32 and not 0x7F <= ord(character) <= 0x9F for character in text)
        and not (segments[0] == "folders" and len(segments) > 1 and re.fullmatch("[a-z0-9-]{1,63}", segments[1]))
    )
