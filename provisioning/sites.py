"""The identities of a site, opened as its site file says."""

from contextlib import AbstractContextManager
from pathlib import Path

from provisioning.identity import GATEWAY_FILE, Site, has_vault
from provisioning.secret import Secret
from provisioning.site_file import SiteFile

_secrets: dict[Path, Secret] = {}


def open_site(site: SiteFile, *, create: bool, secret: Secret | None = None) -> AbstractContextManager[Site]:
    """The site's identities. Its vault, if it has one, is opened with `secret`; where that is None, with what
    the site file or the environment names, or the person types once.
    """
    if secret is None and has_vault(site.directory):
        secret = _secrets.get(site.directory)
        if secret is None:
            secret = _secrets[site.directory] = site.vault_secret()
    return Site.open(
        site.directory, name=site.site, gateway=site.gateway_eui64(), create=create, secret=secret
    )


def found_site(site: SiteFile) -> None:
    """Make the directory of a site and empty registries in it, where there are none."""
    with open_site(site, create=True) as opened:
        if not (site.directory / GATEWAY_FILE).exists():
            with opened.changing():
                pass  # nothing but their first version
