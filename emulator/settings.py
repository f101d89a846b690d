"""What can be set about an emulator, read once from the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

DEFAULT_PORT = 8190
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """How one emulator runs.

    Attributes:
        host: address to listen on; loopback unless told otherwise.
        port: TCP port; 0 takes a free one.
        ledger: SQLite file of the charges; `:memory:` keeps none.
        require_key: the only key accepted, also for /ledger and /faults; None accepts every non-empty one.
        latency: seconds that a paid call takes before it is drawn and charged.
        prerendered: answer from pictures drawn once, without latency.
        seed: changes every picture that no request seeds.
        today: the date by which models are retired; None follows the clock.
        max_in_flight: paid calls worked on at once; one more gets 503.
        max_json_bytes: largest body of an image generation.
        max_media_bytes: largest body of an edit or a chat completion, which carry pictures.
        body_seconds: time a client has to send its body.
        drain_seconds: time that open calls get after SIGTERM.
        dialect: what is spoken where the path names none, as `NAME` or `NAME+OPTION`.
        deployments: names of Azure's deployments and their models; none: each model is deployed by its own name.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    ledger: str = ":memory:"
    require_key: str | None = None
    latency: float = 0.0
    prerendered: bool = False
    seed: int = 0
    today: date | None = None
    max_in_flight: int = 256
    max_json_bytes: int = 1 * MIB
    max_media_bytes: int = 100 * MIB
    body_seconds: float = 120.0
    drain_seconds: float = 3.0
    log_level: str = "info"
    dialect: str = "openai"
    deployments: Mapping[str, str] = field(default_factory=dict)
