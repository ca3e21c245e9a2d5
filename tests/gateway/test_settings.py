"""Settings: where they come from, and what a person is told about wrong ones."""

from pathlib import Path

import pytest

from gateway.settings import PREFIX, Settings, describe, load
from slimwire.settings import SettingsError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def write(directory: Path, text: str) -> Path:
    path = directory / "gateway.toml"
    path.write_text(text)
    return path


def test_defaults_work_without_any_file() -> None:
    settings = load()
    assert (settings.listen, settings.peer, settings.edge) == (
        "127.0.0.1:17754",
        None,
        "http://127.0.0.1:8080",
    )
    assert settings.registry_file() == Path.home() / ".local/state/slimwire/registry.json"
    assert settings.admin_socket() == Path.home() / ".local/state/slimwire/gateway.sock"


def test_the_command_line_beats_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path,
        'listen = "127.0.0.1:1"\npeer = "127.0.0.1:1"\nchannel = 11\n[uplink]\nbatch = 5\nqueue = 6\n',
    )
    monkeypatch.setenv(PREFIX + "PEER", "127.0.0.1:2")
    monkeypatch.setenv(PREFIX + "LISTEN", "127.0.0.1:2")
    monkeypatch.setenv(PREFIX + "UPLINK__QUEUE", "7")
    settings = load(path, listen="127.0.0.1:3", edge=None)
    assert (settings.listen, settings.peer, settings.channel) == ("127.0.0.1:3", "127.0.0.1:2", 11)
    assert (settings.uplink.batch, settings.uplink.queue) == (5, 7)


def test_under_systemd_state_and_socket_are_where_the_unit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/slimwire:/var/lib/other")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/slimwire")
    assert load().registry_file() == Path("/var/lib/slimwire/registry.json")
    assert load().admin_socket() == Path("/run/slimwire/gateway.sock")
    assert load(state=Path("/srv")).admin_socket() == Path("/srv/gateway.sock")


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("lissten = 1", "lissten", "one of listen, peer, channel"),
        ("[uplink]\nbach = 3", "uplink.bach", "one of batch, age, queue, timeout"),
        ("[uplink]\nbatch = 0", "uplink.batch", "greater than or equal to 1"),
        ("[limits]\ntimeout = 61", "limits.timeout", "less than or equal to 60"),
        ("[limits]\nmemory = 'much'", "limits.memory", "valid integer"),
        ("listen = 'here'", "listen", "HOST:PORT"),
        ("edge = 'localhost'", "edge", "http://"),
        ("limits = 3", "limits", "dictionary"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_key_and_expectation(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    what, hoped, remedy = str(caught.value).split("\n  ")
    assert what.startswith(f"{key} in the settings file {path}")
    assert hoped.startswith("expected: ")
    assert expected in hoped
    assert remedy.startswith("remedy: correct")


def test_a_wrong_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "UPLINK__BATCH", "-1")
    with pytest.raises(
        SettingsError, match=r"^the environment variable SLIMWIRE_GATEWAY__UPLINK__BATCH is '-1'"
    ):
        load()


def test_a_variable_that_names_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "VERIFIER", "none")
    with pytest.raises(SettingsError, match="VERIFIER names no setting"):
        load()


def test_an_option_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"^--listen is 'here'"):
        load(listen="here")


@pytest.mark.parametrize("content", [None, b"listen = ", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gateway.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{path}: .*(\n.*)*\n  remedy: "):
        load(path)


def test_nothing_that_can_be_set_reaches_the_verifier() -> None:
    names = [name for row in describe() for name in (row.key, row.variable)]
    assert not [name for name in names if "verif" in name.lower() or "chain" in name.lower()]
    assert {row.key.partition(".")[0] for row in describe()} == set(Settings.model_fields)
    assert all(row.about for row in describe())
