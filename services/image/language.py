"""Wiring of all that asks language models."""

from collections.abc import Callable
from datetime import date

from sqlalchemy.ext.asyncio import AsyncEngine

from services.image.adapters.analyses import Analyses
from services.image.adapters.answers import Answers
from services.image.adapters.generations import Generations
from services.image.adapters.library import Library
from services.image.analysing import Analysing
from services.image.asking import Asking
from services.image.helpers import Helpers
from services.image.helping import Answer, Helping
from services.image.pipeline import Pipeline
from services.image.running import Running
from services.image.settings import ImageSettings
from services.models.endpoints import EndpointClients
from services.models.helpers.flattener import Flattener
from services.models.paid_calls import PaidCalls
from services.models.registry import Registry
from services.models.text import TextAdapter

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Largest answer of a language model, with all that its server says around it."""


class Language:
    """The helpers, and what they share with the steps of generations."""

    def __init__(
        self,
        settings: ImageSettings,
        registry: Registry,
        engine: AsyncEngine,
        paid_calls: PaidCalls,
        clients: EndpointClients,
        library: Library,
        generations: Generations,
        *,
        today: Callable[[], date],
    ) -> None:
        adapter = TextAdapter(registry, clients, seconds=settings.text_seconds, max_answer_bytes=MAX_ANSWER_BYTES)
        answers = Answers(engine)
        self.library, self.flattener = library, Flattener()
        self.asking = Asking(registry, paid_calls, adapter, clients, answers, today=today)
        self.running = Running[Answer](settings.max_generations)
        helping = Helping(self.asking, answers, paid_calls, self.running)
        self.pipeline = Pipeline(engine, self.asking, generations)
        self.analysing = Analysing(
            Analyses(engine), self.asking, library, self.flattener, generations, hold_seconds=2 * settings.lease_seconds
        )
        self.helpers = Helpers(helping, self.asking, library, self.flattener)
