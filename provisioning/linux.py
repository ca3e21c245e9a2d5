"""Enrolling a Linux device: a directory that is moved to it and installed there.

slimwire provision linux hall --site lab
rsync -a --remove-source-files hall root@hall.example:      then, on hall: slimwire device install hall
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioning.errors import ProvisionError
from provisioning.eui64 import of_text
from slimwire import output


def register(app: typer.Typer) -> None:
    """Add the verb to `slimwire provision`."""
    app.command()(linux)


def linux(
    directory: Annotated[Path, typer.Argument(help="Made, and filled with what the device gets.")],
    site: Annotated[str, typer.Option(help="The site, by name or file.")] = "lab",
    name: Annotated[str, typer.Option(help="What people call the device [the directory's name].")] = "",
    eui64: Annotated[str | None, typer.Option(help="The device's EUI-64 [a random one].")] = None,
    bundle: Annotated[str | None, typer.Option(help="Model to install [the site's].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Enrol a Linux device: a directory with its identity, to be moved there and installed, once."""
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    report = enrol(SiteFile.load(site), directory, name=name, eui=of_text(eui64), bundle=bundle)
    if as_json:
        output.print_json(report)
        return
    typer.echo(
        f"enrolled {report['eui64']}, epoch {report['epoch']}; move {directory} to the device (a copy left "
        f"here could be installed twice), then run there:\n  slimwire device install {directory.name}"
    )


def enrol(
    site: Any, directory: Path, *, name: str = "", eui: bytes | None = None, bundle: str | None = None
) -> dict[str, Any]:
    """Write a Linux device's directory and put the device into the site's registries.

    Args:
        site: a `SiteFile`. directory: made; one that holds an identity already is refused.
        name: what people call the device, "": the directory's name. eui: None: a random local one.
        bundle: name or directory, None: the site's.

    Returns:
        `eui64`, `epoch`, `name`, `bundle`, `model_tag`, `directory`. No secret is among it.

    Raises:
        ProvisionError: the directory is in use, the bundle or the site cannot be used.
    """
    from models.bundle import Bundle  # noqa: PLC0415  (numpy loads only where it is used)
    from models.errors import BundleError  # noqa: PLC0415
    from provisioning import entries  # noqa: PLC0415
    from provisioning.device_files import SETTINGS_FILE, write_device_root  # noqa: PLC0415
    from provisioning.identity import local_eui64  # noqa: PLC0415
    from provisioning.sites import open_site  # noqa: PLC0415

    if (directory / SETTINGS_FILE).exists():
        raise ProvisionError(
            f"{directory} holds an identity already",
            expected="a new directory: an identity is never written twice",
            remedy="name another one, or remove it if that identity was never used",
        )
    try:
        loaded = Bundle.load(bundle or site.device.bundle)
    except BundleError as error:
        raise ProvisionError(f"the bundle cannot be installed: {error}") from error
    with open_site(site, create=True) as opened:
        settings = opened.new_identity(eui or local_eui64(), site.options(None))
        settings.pop("wifi", None)  # the system has the network
        try:
            write_device_root(directory, loaded, settings, loaded.pictures().x[: site.device.images])
        except OSError as error:
            raise ProvisionError(f"{directory} cannot be written: {error.strerror}") from error
        directory.chmod(0o700)
        called = name or directory.name
        opened.enrol(settings, called)
    tag = f"{loaded.headfile.model_tag:04x}"
    entries.write(
        site.directory,
        entries.Entry(
            eui64=settings["eui64"],
            name=called,
            epoch=settings["epoch"],
            state=entries.INSTALLING,
            board="linux",
            machine="",
            micropython="",
            port="",
            unique_id="",
            bundle=loaded.name,
            model_tag=tag,
            firmware="",
            code="py",
            installed_at=int(time.time()),
            verified_at=0,
        ),
    )
    return {
        "eui64": settings["eui64"],
        "epoch": settings["epoch"],
        "name": called,
        "bundle": loaded.name,
        "model_tag": tag,
        "directory": str(directory),
    }
