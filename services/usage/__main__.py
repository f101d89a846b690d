"""Serves the usage service: `python -m services.usage --help`."""

import sys
from functools import partial

from contentlab.usage.v1 import usage_service_pb2_grpc
from services.common.main import Command, main
from services.common.server import Application, Service, serve
from services.usage.servicer import UsageLedgerServicer, UsageServicer
from services.usage.settings import UsageSettings

SERVICE_NAME = "contentlab.usage.v1.UsageService"
LEDGER_NAME = "contentlab.usage.v1.UsageLedger"


async def run(settings: UsageSettings) -> None:
    """Serves until SIGTERM."""
    # What is not built answers UNIMPLEMENTED by its base class.
    usage = UsageServicer()  # type: ignore[abstract]
    ledger = UsageLedgerServicer()  # type: ignore[abstract]
    services = [
        Service(SERVICE_NAME, partial(usage_service_pb2_grpc.add_UsageServiceServicer_to_server, usage)),
        Service(LEDGER_NAME, partial(usage_service_pb2_grpc.add_UsageLedgerServicer_to_server, ledger)),
    ]
    await serve(Application(services), settings)


if __name__ == "__main__":
    sys.exit(main("usage", UsageSettings, {"serve": Command("serve RPCs until SIGTERM", run)}))
