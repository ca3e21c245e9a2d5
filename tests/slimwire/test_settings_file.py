"""Settings files as text: what is written can be read, and a newer format keeps what people wrote."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from slimwire.settings import SettingsError, load
from slimwire.settings_file import Change, backup_of, comment_out, documented, effective, lines_of, upgraded

CHANGES = (Change(2, "[radio] power is gone", comment_out("radio.power", "the radio knows")),)


class Radio(BaseModel):
    channel: int = Field(default=26, le=26, description="the channel")
    name: str | None = Field(default=None, description="its name")


class Schema(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLIMWIRE_FILE__", env_nested_delimiter="__", extra="forbid")
    port: int = Field(7, description="the port")
    paths: tuple[Path, ...] = Field((Path("a b"),), description='paths with "quotes"')
    format: int = Field(2, description="the format")
    radio: Radio = Radio()


OLD = """\
# mine
port = 9
[radio]
power = 3 # much
channel = 11
"""


def test_a_documented_file_has_everything_and_changes_nothing() -> None:
    text = documented(Schema, "A title.")
    assert tomllib.loads(text) == {"format": 2, "radio": {}}
    assert "# the channel\n# channel = 26\n" in text
    assert "# its name\n# name =\n" in text
    uncommented = (
        text.replace("# port", "port").replace("# paths =", "paths =").replace("# channel", "channel")
    )
    assert tomllib.loads(uncommented) == {
        "format": 2, "port": 7, "paths": ["a b"], "radio": {"channel": 26},
    }  # fmt: skip


def test_what_is_in_force_reads_back_the_same(tmp_path: Path) -> None:
    settings = load(Schema, None, {"port": 5, "radio": Radio(channel=3, name='a "b"')})
    file = tmp_path / "s.toml"
    file.write_text(effective(settings))
    assert load(Schema, file) == settings


def test_keys_are_found_by_line() -> None:
    assert lines_of(OLD) == {"port": 2, "radio": 3, "radio.power": 4, "radio.channel": 5}
    assert lines_of("[ a.b ]\nc . d=1\n") == {"a.b": 1, "a.b.c.d": 2}


def test_a_newer_format_keeps_comments_and_order() -> None:
    assert upgraded(OLD, 1, CHANGES, 2) == (
        "format = 2\n# mine\nport = 9\n[radio]\n# power = 3 # much  (the radio knows)\nchannel = 11\n"
    )
    again = upgraded("# mine\nformat = 1\n[radio]\npower = 3\n", 1, CHANGES, 2)
    assert again == "# mine\nformat = 2\n[radio]\n# power = 3  (the radio knows)\n"


def test_a_file_of_an_older_version_is_read_and_the_command_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(OLD)
    settings = load(Schema, file, changes=CHANGES, upgrade="slimwire gateway upgrade")
    assert (settings.port, settings.radio.channel) == (9, 11)
    assert (
        f"{file} is of format 1, read as format 2; rewrite it with: slimwire gateway upgrade" in caplog.text
    )
    assert file.read_text() == OLD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = 3\n", "written for a newer Slimwire"),
        ('format = "two"\n', "format is 'two'"),
        ("format = 2\n\n[radio]\nchannel = 99\n", "line 4,"),
        ("port = \n", "at line 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_place_and_remedy(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(Schema, file)
    assert said in caught.value.what
    assert str(file) in caught.value.what
    assert caught.value.remedy


def test_a_backup_never_replaces_another(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    assert backup_of(file, 1).name == "s.toml.format-1"
    backup_of(file, 1).touch()
    assert backup_of(file, 1).name == "s.toml.format-1.1"
