"""Installing, upgrading and removing a service of ours: directories, settings file and unit, below a root."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimwire.errors import SlimwireError
from slimwire.settings import SettingsError, format_of, read_toml
from slimwire.settings_file import Change, backup_of, upgraded
from slimwire.systemd import Staged, hidden_program, unwritable


@dataclass(frozen=True)
class Installation:
    """What belongs to one service.

    Attributes:
        unit: the unit's name.
        settings: the settings file, relative to the root.
        state: the state directory, relative to the root; systemd makes it at the first start.
        first: text of a first settings file.
        format: the format that this version writes; `changes` lead to it.
        extra: what pip installs it with; its commands are those of `slimwire EXTRA`.
    """

    unit: str
    settings: str
    state: str
    first: str
    format: int
    changes: Sequence[Change]
    extra: str

    def install(self, staged: Staged, unit_text: str, *, start: bool) -> dict[str, Any]:
        """Write what is not there yet, the unit always; start it where systemd runs.

        Raises:
            SlimwireError: this interpreter lies where the service cannot reach it, or a file cannot be
                written.
        """
        hidden = hidden_program(self.extra)
        if hidden and staged.root == Path("/"):
            what, _, remedy = hidden.partition("; ")
            raise SlimwireError(what, expected="a program that a sandboxed service can start", remedy=remedy)
        settings, unit = staged.path(self.settings), staged.unit(self.unit)
        written = []
        if not settings.exists() and staged.write(settings, self.first.encode(), 0o644):
            written.append(settings)
        if staged.write(unit, unit_text.encode(), 0o644):
            written.append(unit)
        staged.systemctl("daemon-reload")
        if start:
            staged.systemctl("enable", "--now", self.unit)
        return {
            "unit": str(unit),
            "settings": str(settings),
            "written": [str(path) for path in written],
            "warning": hidden,
            "started": start and staged.live,
        }

    def upgrade(self, staged: Staged, settings: Path | None, unit_text: Callable[[], str]) -> dict[str, Any]:
        """Bring the installed settings and unit to this version and restart the service.

        Args:
            staged: where it is installed.
            settings: rewrite this file instead, and nothing else.
            unit_text: the unit for the settings as they are then.

        Raises:
            SettingsError: there are no settings, or they cannot be used. SlimwireError: something cannot be
                written.
        """
        path = settings or staged.path(self.settings)
        if not path.exists():
            raise SettingsError(f"{path}: no such file", remedy=f"slimwire {self.extra} install")
        report = self._upgrade_settings(staged, path)
        if settings is None:
            report["unit_changed"] = self._restart(staged, unit_text())
        return report

    def _upgrade_settings(self, staged: Staged, path: Path) -> dict[str, Any]:
        """Bring a settings file to this version's format; the one it was stays beside it.

        Returns:
            `settings`, `from`, `to`, `changes` (what each did) and `backup` (None: nothing was to be done).

        Raises:
            SettingsError: no TOML, or newer than this version. SlimwireError: it cannot be written.
        """
        text, data = read_toml(path)
        present = format_of(path, data, self.format)
        report: dict[str, Any] = {
            "settings": str(path),
            "from": present,
            "to": self.format,
            "changes": [change.about for change in self.changes if change.to > present],
            "backup": None,
        }
        if present < self.format:
            mode = path.stat().st_mode & 0o777
            backup = backup_of(path, present)
            staged.write(backup, text.encode(), mode)
            staged.write(path, upgraded(text, present, self.changes, self.format).encode(), mode)
            report["backup"] = str(backup)
        return report

    def _restart(self, staged: Staged, unit_text: str) -> bool:
        """Write the unit anew and restart it where systemd runs; whether the unit changed."""
        changed = staged.write(staged.unit(self.unit), unit_text.encode(), 0o644)
        staged.systemctl("daemon-reload")
        staged.systemctl("try-restart", self.unit)
        return changed

    def uninstall(self, staged: Staged, *, purge: bool) -> dict[str, Any]:
        """Stop it and remove its unit; with `purge` also settings and state.

        Returns:
            `removed` and `kept`: paths.
        """
        staged.systemctl("disable", "--now", self.unit, check=False)
        removed, kept = [], []
        if staged.remove(staged.unit(self.unit)):
            removed.append(staged.unit(self.unit))
        staged.systemctl("daemon-reload")
        settings = staged.path(self.settings)
        # Where DynamicUser is used, systemd keeps the directory itself in private/ and links to it.
        state = staged.path(self.state)
        for path in (settings, state, state.parent / "private" / state.name):
            if not path.exists() and not path.is_symlink():
                continue
            if not purge:
                kept.append(path)
                continue
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                raise unwritable(path, error) from error
            removed.append(path)
        return {"removed": [str(path) for path in removed], "kept": [str(path) for path in kept]}
