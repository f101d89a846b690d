"""The paid-call protocol: every call that costs money is written down before, sent once, and settled after.

    PLANNED --> CALLING --> SUCCEEDED
       |           |------> FAILED            billed: yes or no, known
       |           `------> OUTCOME_UNKNOWN   billed: unknown; only a person, or the result itself, settles it
       `-----------------> FAILED             billed: no

1. `open` writes the intent. The same request id and body find it again; another body is refused.
2. `run` commits CALLING, makes the call once, and commits what came of it, in one transaction with what the caller
   keeps of the result and with an event for whoever adds up usage.
3. The row is leased to the process at work. What a crash leaves is settled by `sweep`: PLANNED was never sent, CALLING
   may have been billed and is never sent again; where its result has left traces (`Subjects.find`) it is SUCCEEDED.

4. `resolve` takes a person's word for whether a call of unknown outcome was billed, after a last look for its result,
   and may open another call in its place.

Tables live in the caller's schema: `paid_call_tables` adds them to its MetaData, `migrations` creates them.
"""

from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.leases import Lease
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.protocol import PaidCalls
from services.models.paid_calls.records import (
    Billing,
    Found,
    Intent,
    InTransaction,
    Opened,
    PaidCall,
    Resolution,
    State,
    Subjects,
    fingerprint,
)
from services.models.paid_calls.resolving import Resolved, not_resolvable
from services.models.paid_calls.settlement import Performed
from services.models.paid_calls.tables import PaidCallTables, paid_call_tables

__all__ = [
    "Billing",
    "Found",
    "InTransaction",
    "Intent",
    "Lease",
    "Opened",
    "PaidCall",
    "PaidCallMetrics",
    "PaidCallTables",
    "PaidCalls",
    "Performed",
    "Resolution",
    "Resolved",
    "State",
    "Subjects",
    "fingerprint",
    "may_pass",
    "not_resolvable",
    "paid_call_tables",
]
