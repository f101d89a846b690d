"""A made-up library: rows as a busy team would have them, the same for the same number.

Words follow Zipf's law; one prompt in ten is Japanese; one asset in five has an analysis. One owner has nine tenths,
and has deleted the newest tenth of them.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from services.gallery.domain.assets import Analysis
from services.gallery.domain.document import analysis_to_json
from services.gallery.domain.search import VERSION, document_of

LARGE = "local"
"""The owner of most: whoever calls without credentials."""

OWNERS = ((LARGE, 0.9), ("team-b", 0.09), ("team-c", 0.01))
FOLDERS = 2_000
TREE = "project-01"
MODELS = ("gpt-image-1", "gpt-image-1-mini", "sora-2", "sora-2-pro", "gpt-image-1.5", "")
COMMON_TAG, RARE_TAG, COLD_TAG = "campaign", "one-off", "archive"
COMMON_WORD, MIDDLE_WORD, RARE_WORD = "light", "harbour", "zyzzyva"

_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_KEPT = timedelta(days=36_500)


def _split(text: str) -> list[str]:
    return text.split()


_SUBJECTS = _split(
    "light a of the in with on soft golden morning shadow portrait city street forest mountain river ocean sky cloud "
    "woman man child dog cat horse bird red blue green white black warm cold glass metal wood stone paper neon rain "
    "snow fog harbour bridge tower market kitchen studio camera lens film grain wide close detailed cinematic "
    "watercolour oil sketch poster logo product bottle shoe watch car bicycle train ship plane garden flower rose"
)
_SYLLABLES = _split("ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo za bra cle dri flo gru sha thi")
_KANJI = _split(
    "夜 海 東京 雨 猫 犬 山 川 空 花 光 影 森 街 駅 桜 紅葉 雪 月 星 料理 写真 広告 背景 人物 自転車 電車 夏祭り"
)
_LINKS = _split("の に と が は で を")


def vocabulary() -> list[str]:
    """Words, the most frequent first."""
    made = ("".join(parts) for parts in itertools.product(_SYLLABLES, repeat=3))
    return [*_SUBJECTS, *itertools.islice(made, 20_000 - len(_SUBJECTS))]


class Library:
    """Rows by their number, oldest first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._words = vocabulary()
        self._word_weights = list(itertools.accumulate(1 / (rank + 8) for rank in range(len(self._words))))
        self._tags = [f"tag-{number}" for number in range(500)]
        self._tag_weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(self._tags))))

    def time(self, number: int) -> datetime:
        """When the asset of this number was created."""
        return _BEGIN + timedelta(seconds=60 * number)

    def rows(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """The rows of these numbers, without the last."""
        return (self._row(number) for number in range(first, last))

    def _row(self, number: int) -> dict[str, Any]:
        chance = random.Random(number)
        owner = chance.choices([name for name, _ in OWNERS], [share for _, share in OWNERS])[0]
        is_video = chance.random() < 0.08
        prompt = self._prompt(chance, number)
        name = " ".join(chance.choices(self._words, cum_weights=self._word_weights, k=3)) + (
            ".mp4" if is_video else ".png"
        )
        tags = self._asset_tags(chance, number)
        seen = self._analysis(chance)
        created = self.time(number)
        is_deleted = owner == LARGE and number >= self.count * 9 // 10
        deleted = created + timedelta(days=1) if is_deleted else None
        return {
            "id": hashlib.blake2b(str(number).encode(), digest_size=13).hexdigest(),
            "owner": owner,
            "display_name": name,
            "folder_id": folder_id(owner, int(FOLDERS * chance.random() ** 2)) if chance.random() < 0.7 else None,
            "media_type": "video" if is_video else "image",
            "mime_type": "video/mp4" if is_video else "image/png",
            "size_bytes": int(chance.lognormvariate(14, 1)) + 1,
            "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
            "width_px": 1024,
            "height_px": 1536,
            "prompt": prompt,
            "model": chance.choices(MODELS, (50, 20, 8, 1, 1, 20))[0],
            "parameters": json.dumps({"size": "1024x1536", "quality": "high"}),
            "origin": f"imageGenerations/{number // 4:08x}",
            "analysis": json.dumps(analysis_to_json(seen)) if seen else None,
            "tags": tags,
            "favorite": chance.random() < 0.02,
            "create_time": created,
            "update_time": created + timedelta(hours=chance.random() * 48),
            "delete_time": deleted,
            "purge_time": deleted + _KEPT if deleted else None,
            "derive_time": None,
            "search": document_of(name, tags, prompt, seen),
            "search_version": VERSION,
        }

    def _prompt(self, chance: random.Random, number: int) -> str:
        if chance.random() < 0.1:
            return "".join(chance.choice(_KANJI) + chance.choice(_LINKS) for _ in range(chance.randint(5, 40)))
        length = min(int(chance.lognormvariate(3.4, 0.6)), 400)
        words = chance.choices(self._words, cum_weights=self._word_weights, k=length)
        return " ".join([*words, RARE_WORD] if number % 20_011 == 0 else words)

    def _asset_tags(self, chance: random.Random, number: int) -> list[str]:
        tags = set(chance.choices(self._tags, cum_weights=self._tag_weights, k=chance.randint(0, 3)))
        if chance.random() < 0.3:
            tags.add(COMMON_TAG)
        if number % 5_003 == 0:
            tags.add(RARE_TAG)
        if number < self.count // 20:
            tags.add(COLD_TAG)
        return sorted(tags)

    def _analysis(self, chance: random.Random) -> Analysis | None:
        if chance.random() >= 0.2:
            return None
        words = chance.choices(self._words, cum_weights=self._word_weights, k=40)
        return Analysis(description=" ".join(words))


def folder_id(owner: str, number: int) -> str:
    """The id of an owner's folder; low numbers hold the most."""
    return f"{owner}-{number:05d}"


def folder_path(number: int) -> str:
    """Forty projects with fifty folders each."""
    project, inner = f"project-{number % 40:02d}", number // 40
    return project if inner == 0 else f"{project}/日付-{inner:03d}"
