"""Settings: who wins over whom, and what a wrong value says."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from slimwire.settings import Setting, SettingsError, describe, load


class Radio(BaseModel):
    model_config = ConfigDict(extra="forbid")
    channel: int = Field(26, ge=11, le=26, description="an 802.15.4 channel")


class Schema(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLIMWIRE_TEST__", env_nested_delimiter="__", extra="forbid")
    name: str = "default"
    port: int = 1
    radio: Radio = Radio()


def test_options_beat_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.toml"
    file.write_text('name = "file"\nport = 2\n[radio]\nchannel = 11\n')
    assert load(Schema, file).name == "file"
    monkeypatch.setenv("SLIMWIRE_TEST__PORT", "3")
    monkeypatch.setenv("SLIMWIRE_TEST__RADIO__CHANNEL", "15")
    settings = load(Schema, file, {"name": "option", "port": None})
    assert (settings.name, settings.port, settings.radio.channel) == ("option", 3, 15)
    assert type(settings) is Schema


def test_every_wrong_value_is_named_with_what_was_expected(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('port = "many"\nspeed = 3\n[radio]\nchannel = 99\n')
    with pytest.raises(SettingsError) as caught:
        load(Schema, file)
    text = str(caught.value)
    for part in (str(file), "port", "'many'", "speed", "radio.channel", "99", "less than or equal to 26"):
        assert part in text


@pytest.mark.parametrize(
    ("content", "says"), [(b"port 3", "line 1"), (b"\xff\xfe", "UTF-8"), (None, "no such file")]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        load(Schema, file)


def test_a_wrong_value_is_named_by_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[radio]\nchannel = 99\n")
    monkeypatch.setenv("SLIMWIRE_TEST__PORT", "many")
    with pytest.raises(SettingsError) as caught:
        load(Schema, file, {"name": 7})
    what, expected, remedy = str(caught.value).split("\n  ")
    assert "--name is 7" in what
    assert "the environment variable SLIMWIRE_TEST__PORT is 'many'" in what
    assert f"radio.channel in the settings file {file}, line 2, is 99" in what
    assert "less than or equal to 26" in expected
    assert remedy == "remedy: correct or remove them"


def test_what_is_no_setting_is_told_which_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[radio]\nchanel = 12\n")
    with pytest.raises(
        SettingsError, match=r"radio\.chanel in .* is no setting\n  expected: one of channel\n"
    ):
        load(Schema, file)
    monkeypatch.setenv("SLIMWIRE_TEST__PROT", "1")
    with pytest.raises(SettingsError, match="SLIMWIRE_TEST__PROT names no setting"):
        load(Schema)


def test_a_variable_that_should_hold_json_and_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMWIRE_TEST__RADIO", "channel 26")
    with pytest.raises(SettingsError, match="radio"):
        load(Schema)


def test_every_setting_is_described() -> None:
    assert describe(Schema) == [
        Setting("name", "SLIMWIRE_TEST__NAME", "'default'", ""),
        Setting("port", "SLIMWIRE_TEST__PORT", "1", ""),
        Setting("radio.channel", "SLIMWIRE_TEST__RADIO__CHANNEL", "26", "an 802.15.4 channel"),
    ]
