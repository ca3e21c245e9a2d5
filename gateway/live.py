"""Settings that change while the gateway runs (SIGHUP): what can be taken over is, the rest is named."""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import BaseModel

from gateway.downlink import DownlinkLimits
from gateway.outbox import OutboxLimits
from gateway.service import Service
from gateway.settings import Settings
from gateway.uplink import UplinkLimits

#: Taken over at once. All others need a restart.
LIVE = frozenset(
    {
        "limits.timeout",
        "limits.retry_gap",
        "limits.rate",
        "limits.burst",
        "outbox.bytes",
        "outbox.age",
        "uplink.batch",
        "uplink.age",
        "downlink.gap",
        "downlink.queue",
    }
)


def changed(old: BaseModel, new: BaseModel, prefix: str = "") -> Iterator[str]:
    """Names of settings that differ, a section's as `section.key`."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(after, BaseModel):
            yield from changed(before, after, f"{prefix}{name}.")
        elif before != after:
            yield prefix + name


def apply(service: Service, new: Settings) -> tuple[list[str], list[str]]:
    """Take over what can be.

    Returns:
        The settings that are in force now, and those that need a restart.
    """
    old = service.settings
    names = list(changed(old, new))
    limits, box, up, down = new.limits, new.outbox, new.uplink, new.downlink
    receiver = service.receiver
    receiver.limits = replace(
        receiver.limits,
        timeout=limits.timeout,
        retry_gap=limits.retry_gap,
        rate=limits.rate,
        burst=limits.burst,
    )
    service.outbox.adjust(OutboxLimits(bytes=box.bytes, age=box.age))
    service.uplink.adjust(UplinkLimits(batch=up.batch, age=up.age, queue=old.uplink.queue))
    service.downlink.adjust(DownlinkLimits(gap=down.gap, queue=down.queue))
    service.settings = old.model_copy(
        update={
            "limits": limits.model_copy(update={"memory": old.limits.memory}),
            "outbox": box,
            "uplink": old.uplink.model_copy(update={"batch": up.batch, "age": up.age}),
            "downlink": down,
        }
    )
    return [name for name in names if name in LIVE], [name for name in names if name not in LIVE]
