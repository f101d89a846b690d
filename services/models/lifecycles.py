"""Comparing the models in use with what their servers say of them: which are there, and until when."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.models.endpoints import EndpointClients
from services.models.exchange import Terms, exchange, json_object
from services.models.failures import CallFailed
from services.models.registry import Registry
from services.models.rows import ImageModel, ModelRow, TextModel

DAY_SECONDS = 86_400.0
SOON = timedelta(days=90)
"""How long before its end a model that is not the default is worth a warning."""

# A list of models is no answer that anything waits for.
_TERMS = Terms(15.0, 8 * 1024 * 1024)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """What one server lists: its models by their wire ids, with the day on which each ends, where it says so."""

    ends: Mapping[str, date | None]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Listed":
        """The list in the answer of `GET /models`; what has no id is left out."""
        rows = data.get("data")
        cards = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        return cls({row["id"]: _end_of(row) for row in cards if isinstance(row.get("id"), str)})


class Lifecycles:
    """Asks every endpoint of a registry once a day. What it learns is told, and refuses nothing."""

    def __init__(
        self,
        registry: Registry,
        clients: EndpointClients,
        *,
        today: Callable[[], date],
        metrics: CollectorRegistry,
    ) -> None:
        self._registry = registry
        self._clients = clients
        self._today = today
        self._warnings: tuple[str, ...] = ()
        self._ends = Gauge(
            "contentlab_model_shutdown_timestamp_seconds",
            "When a model's last day ends, as Unix time: the earlier one of the registry's and its server's.",
            ("model",),
            registry=metrics,
        )
        self._missing = Gauge(
            "contentlab_models_not_listed",
            "Models in use that their servers, which list every model, do not list.",
            registry=metrics,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the last comparison found that the registry does not know."""
        return self._warnings

    async def compare_forever(self) -> None:
        """Compares now and then daily, until cancelled."""
        while True:
            await self.compare()
            await asyncio.sleep(DAY_SECONDS * random.uniform(0.95, 1.05))  # noqa: S311 - spreads load only

    async def compare(self) -> None:
        """Asks every endpoint in use, and tells what it finds. An endpoint that does not answer is passed over."""
        names = sorted({model.endpoint for model in self._registry.models.values()})
        answers = await asyncio.gather(*(self._list(name) for name in names))
        listed = dict(zip(names, answers, strict=True))
        found = list(self._findings(listed))
        self._warnings = tuple(found)
        for warning in (*found, *self._soon()):
            _log.warning("model_lifecycle", problem=warning)

    async def _list(self, name: str) -> Listed | None:
        """What the endpoint lists; None: it does not say, for whatever reason. Costs nothing."""
        endpoint = self._registry.endpoints[name]
        if not endpoint.configured:
            return None
        try:
            client = await self._clients.client(name)
            models = client.openai.models.with_streaming_response
            call: Any = models.list(extra_headers=client.headers)
            dialect = self._registry.dialects[endpoint.dialect]
            answer, request_id = await exchange(call, _TERMS, client=client, dialect=dialect, endpoint=name)
            return Listed.from_json(json_object(answer, request_id))
        except CallFailed as failed:
            _log.info("models_not_listed", endpoint=name, reason=failed.error.reason)
            return None

    def _findings(self, listed: Mapping[str, Listed | None]) -> Iterator[str]:
        missing = 0
        for model_id, model in self._registry.models.items():
            answer = listed[model.endpoint]
            told = answer.ends.get(model.wire_id) if answer else None
            end = min((day for day in (model.shutdown_date, told) if day is not None), default=None)
            if end is not None:
                self._ends.labels(model_id).set(_last_moment(end).timestamp())
            if told is not None and told != model.shutdown_date:
                known = f"the registry says {model.shutdown_date}" if model.shutdown_date else "the registry has no end"
                yield f"model {model_id} is shut down on {told}, says its server; {known}{_instead(model)}"
            if answer and self._lists_all(model) and model.wire_id not in answer.ends and not self._is_over(model):
                missing += 1
                yield f"model {model_id} is not among the models that its server lists{_instead(model)}"
        self._missing.set(missing)

    def _soon(self) -> Iterator[str]:
        """Ends that the registry knows of and that are near, and the defaults' in any case."""
        defaults = {self._registry.default(kind) for kind in (ImageModel, TextModel)}
        for model_id, model in self._registry.models.items():
            end = model.shutdown_date
            if end is not None and (model_id in defaults or timedelta(0) <= end - self._today() <= SOON):
                yield f"model {model_id} has its last day on {end}{_instead(model)}"

    def _lists_all(self, model: ModelRow) -> bool:
        return self._registry.dialect(model).lists_all_models

    def _is_over(self, model: ModelRow) -> bool:
        return model.shutdown_date is not None and self._today() > model.shutdown_date


def _end_of(card: Mapping[str, Any]) -> date | None:
    """A model's last day: `shutdown_date` as OpenAI gives it, or the Unix time that Azure gives of its end."""
    told = card.get("shutdown_date")
    if isinstance(told, str):
        try:
            return date.fromisoformat(told[:10])
        except ValueError:
            return None
    deprecation = card.get("deprecation")
    ends = deprecation.get("inference") if isinstance(deprecation, Mapping) else None
    if not isinstance(ends, int | float) or isinstance(ends, bool):
        return None
    try:
        return datetime.fromtimestamp(ends, UTC).date()
    except (OverflowError, OSError, ValueError):
        return None


def _last_moment(day: date) -> datetime:
    return datetime.combine(day, time.max, UTC)


def _instead(model: ModelRow) -> str:
    return f"; use {model.replacement}" if model.replacement else ""
