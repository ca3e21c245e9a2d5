"""One gateway process: the service, its admin interface, and a clean stop."""

import asyncio
import contextlib
import logging
import signal
import time

from gateway import kept_trust
from gateway.admin import AdminServer
from gateway.enrolment import FLOOR, Enrolment
from gateway.legs import Legs
from gateway.notify import notify
from gateway.outbox import Store
from gateway.service import Service
from gateway.settings import Settings
from gateway.trust_file import NAME as TRUST_NAME
from security.chain import ChainVerifier
from security.trust import PredictiveTrust

_log = logging.getLogger("gateway")

#: s that a stopping gateway gives what is under way to the edge server; the rest stays in the outbox.
_DRAIN = 2.0


async def open_service(settings: Settings, verifier: ChainVerifier) -> tuple[Service, Legs]:
    """Open registry and legs as `settings` say. Closing the legs is the caller's.

    Raises:
        GatewayError: a registry, an address or a file cannot be used; says which, and what to do.
    """
    enrolment = Enrolment(
        settings.registry_file(),
        create=settings.registry is None,
        key=settings.registry_key,
        memory=settings.state_directory() / FLOOR,
    )
    legs = await Legs.open(settings, enrolment.registry.site, enrolment.registry.gateway)
    try:
        store = Store(settings.state_directory())
    except BaseException:
        await legs.close()
        raise
    try:
        trust = PredictiveTrust(identities=enrolment.registry.devices)
        kept_trust.take_over(
            settings.state_directory() / TRUST_NAME, trust, store, time.monotonic(), time.time()
        )
        return Service(settings, verifier, trust, legs.link, enrolment, store=store), legs
    except BaseException:
        store.close()
        await legs.close()
        raise


async def run(settings: Settings, *, verifier: ChainVerifier) -> None:
    """Run a gateway until SIGTERM or SIGINT.

    Raises:
        GatewayError: it cannot start; says why, and what to do.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service, legs = await open_service(settings, verifier)
    service.keep_epochs(settings.state_directory())
    admin = AdminServer(service, settings.admin_socket())
    try:
        await admin.start()
        serving = asyncio.create_task(service.run())
        stopping = asyncio.create_task(stop.wait())
        _log.info(
            "gateway %s, site %r: %d devices enrolled in %s; %s, edge server %s, admin socket %s",
            service.receiver.gateway.hex(),
            service.enrolment.registry.site,
            len(service.receiver.peers),
            service.enrolment.path,
            service.link.description,
            settings.edge,
            admin.path,
        )
        notify("READY=1")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1")
        stopping.cancel()
        if not serving.done():
            await service.drain(_DRAIN)
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        await admin.stop()
        await legs.close()
    _log.info(
        "stopped after %.0f s: %d messages accepted, %d taken by the edge server, %d wait in the outbox",
        service.uptime,
        service.receiver.messages,
        service.uplink.delivered,
        service.outbox.messages,
    )
