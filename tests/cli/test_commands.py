"""The command line: help, the two commands, and what is said of anything else."""

import importlib

import pytest

from w2s_lib.cli.commands import COMMANDS, main


def test_help_names_each_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m w2s_lib [--help] COMMAND")
    for name, (_, what) in COMMANDS.items():
        assert name in shown and what in shown


@pytest.mark.parametrize("arguments", [[], ["audti"], ["audti", "--help"], ["--fast", "audit"]])
def test_anything_else_stops_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("usage: python -m w2s_lib") and not shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_of_its_own(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"python -m w2s_lib {command}" in capsys.readouterr().out


def test_arguments_and_status_are_handed_through(monkeypatch):
    module = importlib.import_module(COMMANDS["audit"][0])
    monkeypatch.setattr(module, "main", lambda arguments: len(arguments))
    assert main(["audit", "pair.npz", "--json", "--probabilities"]) == 3


def test_a_missing_package_is_named(monkeypatch, capsys):
    def fail(name):
        raise ImportError("pip install 'w2s_lib[experiments]'")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["evidence"])
    assert stopped.value.code == 2
    assert "python -m w2s_lib evidence: pip install 'w2s_lib[experiments]'" in capsys.readouterr().err
