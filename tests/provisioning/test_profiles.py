"""Board profiles and site files: data that people write, checked where it enters."""

import pytest

from provisioning import fleet, profiles, secret, site_file, sites
from provisioning.emulated import machine_name
from provisioning.errors import ProvisionError
from provisioning.payload import _ARCHITECTURES
from provisioning.site_file import SiteFile

#: What MicroPython 1.2x says of real boards (`sys.implementation._machine`).
REAL = {
    "Generic ESP32 module with ESP32": "esp32",
    "Generic ESP32S2 module with ESP32S2": "esp32s2",
    "Generic ESP32S3 module with ESP32S3": "esp32s3",
    "ESP32C3 module with ESP32C3": "esp32c3",
    "ESP32-C6 module with ESP32C6": "esp32c6",
    "Raspberry Pi Pico W with RP2040": "pico-w",
    "Raspberry Pi Pico 2 W with RP2350": "pico2-w",
}


@pytest.mark.parametrize("name", list(profiles.names()))
def test_every_shipped_profile_loads_and_knows_its_emulated_board(name) -> None:
    profile = profiles.load(name)
    assert profile.is_of(machine_name(profile))
    assert profile.architecture in {"", *_ARCHITECTURES.values()}
    assert profile.flash.images.startswith("https://micropython.org/download/")
    if profile.machine:
        assert profiles.matching(machine_name(profile)) == profile


@pytest.mark.parametrize(("machine", "name"), REAL.items())
def test_a_real_board_is_of_one_profile(machine, name) -> None:
    named = [each for each in profiles.names() if profiles.load(each).machine]
    assert [each for each in named if profiles.load(each).is_of(machine)] == [name]
    assert profiles.matching("linux [GCC 14.2.1] version") is None


def test_a_user_s_own_profile_goes_before_a_shipped_one(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (profiles.SHIPPED / "esp32c3.toml").read_text()
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "esp32c3.toml").write_text(text.replace('"ESP32-C3"', '"our board"'))
    (tmp_path / "boards" / "mine.toml").write_text(text)
    assert profiles.load("esp32c3").title == "our board"
    assert profiles.load("mine").chip == "esp32c3"
    assert profiles.load(str(tmp_path / "boards" / "mine.toml")).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("heap_kib = 128", "heap_kib = 1", "heap_kib cannot be used"),
        ("heap_kib = 128", "heap = 128", "heap_kib cannot be used"),
        ('machine = "ESP32-?C3"', 'machine = "("', "a regular expression"),
        ('"303a:1001"', '"303A"', "lower-case hexadecimal"),
        ('method = "esptool"', 'method = "magic"', "flash.method cannot be used"),
        ("format = 1", "format = 2", "format cannot be used"),
        ("format = 1", 'name = "x"\nformat = 1', "names itself"),
        ("format = 1", "format = ", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(tmp_path, old, new, said) -> None:
    text = (profiles.SHIPPED / "esp32c3.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProvisionError, match=said):
        profiles.load(str(path))


def test_a_profile_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ProvisionError, match=r"no board 'esp99'[\s\S]*esp32c3[\s\S]*generic"):
        profiles.load("esp99")


# --- site files ---


def test_a_written_site_file_is_read_back(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    site_file.write(tmp_path / "sites" / "hall.toml", host="192.0.2.1", port=1234, ssid='a "b" \\ c')
    site = SiteFile.load("hall")
    assert (site.site, site.gateway.host, site.gateway.port) == ("hall", "192.0.2.1", 1234)
    assert site.wifi.ssid == 'a "b" \\ c'
    assert site.directory.resolve() == tmp_path / "sites" / "hall"
    assert site.options("k").wifi == {"ssid": 'a "b" \\ c', "key": "k"}
    assert site.options("k").link["host"] == "192.0.2.1"
    with pytest.raises(ProvisionError, match="is there already"):
        site_file.write(tmp_path / "sites" / "hall.toml", host="x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = 2", "format cannot be used"),
        ("format = 1\n[gateway]\nport = 0", "gateway.port cannot be used"),
        ('format = 1\n[gateway]\neui64 = "12"', "gateway.eui64 cannot be used"),
        ("format = 1\n[gateways]\nport = 1", "gateways cannot be used"),
        ('format = 1\n[micropython.esp32c3]\nimage = "x"\nsha256 = "12"', "sha256 cannot be used"),
        ("format =", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_site_file_is_named(tmp_path, text, said) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(ProvisionError, match=said):
        SiteFile.load(str(path))


def test_a_site_that_is_not_there_is_refused_with_how_to_make_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(ProvisionError, match=r"no site 'lab'[\s\S]*slimwire provision site lab --host"):
        SiteFile.load("lab")


def test_a_site_with_a_vault_is_opened_by_what_its_file_names(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("SLIMWIRE_VAULT_PASSPHRASE", raising=False)
    monkeypatch.delenv("SLIMWIRE_VAULT_KEY_FILE", raising=False)
    key = tmp_path / "vault.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    path = tmp_path / "lab.toml"
    path.write_text("format = 1\n")
    fleet.make_vault(tmp_path / "lab", secret.key_file(key), name="lab")
    with pytest.raises(ProvisionError, match="needs its passphrase"):
        sites.open_site(SiteFile.load(str(path)), create=False)
    path.write_text('format = 1\n[vault]\nkey_file = "vault.key"\n')
    site = SiteFile.load(str(path))
    with sites.open_site(site, create=False) as opened:
        assert opened.vault is not None
        assert opened.gateway.site == "lab"


def test_the_wi_fi_key_comes_from_environment_file_or_person_in_this_order(tmp_path, monkeypatch) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('format = 1\n[wifi]\nssid = "w"\nkey_file = "key"\n')
    (tmp_path / "key").write_text("from file\n")
    site = SiteFile.load(str(path))
    monkeypatch.setenv(site_file.WIFI_KEY_VARIABLE, "from environment")
    assert site.wifi_key() == "from environment"
    monkeypatch.delenv(site_file.WIFI_KEY_VARIABLE)
    assert site.wifi_key(lambda _: "typed") == "from file"
    path.write_text('format = 1\n[wifi]\nssid = "w"\n')
    site = SiteFile.load(str(path))
    assert site.wifi_key(lambda question: f"typed after {question}") == "typed after Key of the Wi-Fi 'w': "
    with pytest.raises(ProvisionError, match="SLIMWIRE_WIFI_KEY"):
        site.wifi_key()
    path.write_text("format = 1\n")
    assert SiteFile.load(str(path)).wifi_key() is None
