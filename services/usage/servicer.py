"""The RPCs of the usage service. Those not built yet answer UNIMPLEMENTED through the generated base classes."""

from contentlab.usage.v1 import usage_service_pb2_grpc


class UsageServicer(usage_service_pb2_grpc.UsageServiceServicer):
    """`contentlab.usage.v1.UsageService`: what people read and set."""


class UsageLedgerServicer(usage_service_pb2_grpc.UsageLedgerServicer):
    """`contentlab.usage.v1.UsageLedger`: what the paying services write. The gateway never routes it."""
