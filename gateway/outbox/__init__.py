"""The outbox: what the gateway has promised to deliver (docs/adr/0009-durable-outbox.md).

- `outbox.Outbox` the messages in custody, their bounds, and the thread that commits them;
- `store` its transactions, `database` its file (versions, checks, what to do with a damaged one), `salvage`
  what can still be read of that, `rows` what a row says, `clock` its seconds: none of these knows asyncio.
"""

from gateway.outbox.database import OutboxError
from gateway.outbox.outbox import Outbox, OutboxLimits
from gateway.outbox.rows import Message, TrustRow
from gateway.outbox.store import Offered, Store

__all__ = ["Message", "Offered", "Outbox", "OutboxError", "OutboxLimits", "Store", "TrustRow"]
