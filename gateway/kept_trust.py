"""What the gateway thinks of its devices, kept in the outbox: a row a device, written with what changed it.

Ages are right after a restart: a row says when it was written by the outbox's clock, and what passed since
has passed for the engine too. The `trust.json` of release 0.1 is taken over once, and renamed.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from gateway import trust_file
from gateway.outbox.rows import TrustRow
from gateway.outbox.store import Store, Work
from security.errors import StateError
from security.trust import Quarantining, TrustEngine

_log = logging.getLogger("gateway.trust")


def rows_of(engine: TrustEngine, devices: Iterable[bytes], clock: float) -> list[TrustRow]:
    """What is to be kept of these devices at reading `clock` of the outbox's clock; nothing of a newcomer."""
    name = type(engine).__name__
    rows = []
    for device in devices:
        state = engine.to_dict([device])
        if state["identities"]:
            rows.append(TrustRow(device, name, clock, json.dumps(state)))
    return rows


def restore(engine: TrustEngine, rows: Iterable[TrustRow], now: float, clock: float) -> None:
    """Take over rows, oldest first. Never raises: a row that cannot be used makes its device a newcomer.

    Args:
        engine: with the devices enrolled.
        rows: as kept.
        now: monotonic time, the engine's clock, s.
        clock: the outbox's clock, s.
    """
    name = type(engine).__name__
    for row in rows:
        if row.engine != name:
            _log.warning("the trust in %s was kept by %s: it starts anew", row.device.hex(), row.engine)
            continue
        try:
            if isinstance(engine, Quarantining):
                engine.advance(now - max(0.0, clock - row.written))
            engine.restore(json.loads(row.state))
        except (StateError, ValueError, RecursionError) as error:
            _log.warning("the trust in %s is not used and starts anew: %s", row.device.hex(), error)
    if isinstance(engine, Quarantining):
        engine.advance(now)


def take_over(path: Path, engine: TrustEngine, store: Store, now: float, wall: float) -> None:
    """Bring the `trust.json` of release 0.1 into an outbox that has no trust yet, and rename the file.

    Args:
        engine: with the devices enrolled.
        now, wall: monotonic and Unix time, s.
    """
    if store.trust() or not path.exists():
        return
    trust_file.restore(path, engine, now, wall)
    rows = rows_of(engine, [bytes.fromhex(name) for name in engine.to_dict()["identities"]], store.clock())
    if rows and store.commit(Work(trust={row.device: row for row in rows})).kept:
        path.replace(path.with_name(path.name + ".taken-over"))
