"""One gateway process: the service, its admin interface, and a clean stop."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable

from gateway import kept_trust, live, watchdog
from gateway.admin import AdminServer, ProbeServer
from gateway.discovery import Discovery
from gateway.enrolment import FLOOR, Enrolment
from gateway.legs import Legs
from gateway.outbox import Store
from gateway.service import Service
from gateway.settings import Settings
from gateway.trust_file import NAME as TRUST_NAME
from security.chain import ChainVerifier
from security.trust import PredictiveTrust
from slimwire.errors import SlimwireError
from slimwire.notify import notify

_log = logging.getLogger("gateway")

#: s that a stopping gateway gives what is under way to the edge server; the rest stays in the outbox.
_DRAIN = 2.0


async def open_service(settings: Settings, verifier: ChainVerifier) -> tuple[Service, Legs]:
    """Open registry and legs as `settings` say. Closing the legs is the caller's.

    Raises:
        GatewayError: a registry, an address or a file cannot be used, or the way to an edge server on another
            machine is open; says which, and what to do.
    """
    for url in settings.edge_servers():
        settings.check_edge(url)
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


def _reload(service: Service, legs: Legs, read: Callable[[], Settings]) -> None:
    """Take over what changed in the settings, and certificates that were renewed."""
    try:
        new = read()
        service.uplink.renew()
        if legs.mqtt is not None:
            legs.mqtt.renew()
        taken, later = live.apply(service, new)
    except SlimwireError as error:
        _log.error("the changed settings are not used, those before stay in force: %s", error)
        return
    _log.info("settings read again: %s", f"{', '.join(taken)} changed" if taken else "nothing changed")
    if later:
        _log.warning("to be in force these need a restart: %s", ", ".join(later))


async def run(
    settings: Settings, *, verifier: ChainVerifier, reload: Callable[[], Settings] | None = None
) -> None:
    """Run a gateway until SIGTERM or SIGINT.

    Args:
        settings: what to run.
        verifier: what decides whether a fragment is genuine.
        reload: reads the settings again, for SIGHUP.

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
    probes = ProbeServer(service, settings.metrics) if settings.metrics else None
    try:
        await admin.start()
        if probes is not None:
            await probes.start()
        serving = asyncio.create_task(service.run())
        beside = [asyncio.create_task(watchdog.feed(service)), asyncio.create_task(service.uplink.greet())]
        if legs.mqtt is not None and settings.mqtt.discovery:
            discovery = Discovery(service, legs.mqtt, settings.mqtt.discovery_prefix)
            beside.append(asyncio.create_task(discovery.run()))
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, service, legs, reload)
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
        for task in beside:
            task.cancel()
        if not serving.done():
            await service.drain(_DRAIN)
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        await admin.stop()
        if probes is not None:
            await probes.stop()
        await legs.close()
    _log.info(
        "stopped after %.0f s: %d messages accepted, %d taken by the edge server, %d wait in the outbox",
        service.uptime,
        service.receiver.messages,
        service.uplink.delivered,
        service.outbox.messages,
    )
