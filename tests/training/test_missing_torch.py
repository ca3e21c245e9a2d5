"""Without torch the room says what to install, and so does the command."""

import importlib
import sys

import pytest


@pytest.fixture
def no_torch(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("training", "torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("no_torch")
def test_the_import_names_the_install_line():
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'slimwire\[train\]'"):
        importlib.import_module("training")


@pytest.mark.usefixtures("no_torch")
def test_the_command_names_the_install_line(monkeypatch, capsys):
    from slimwire.cli import main

    monkeypatch.setattr(sys, "argv", ["slimwire", "train", "--recipe", "fashion-mnist"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 3
    assert "pip install 'slimwire[train]'" in capsys.readouterr().err
