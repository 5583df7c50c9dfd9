"""python -m w2s_lib audit FILE: its outputs and its status; what a file may be: test_prediction_files."""

import json
import subprocess
import sys

import pytest
from test_audit import pair
from test_prediction_files import write_csv

from w2s_lib.cli.audit_command import main


def test_one_row_is_valid_json(tmp_path, capsys):
    labels, teacher, student = pair(1)
    path = write_csv(tmp_path / "pair.csv", labels, teacher, student)
    assert main([str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out, parse_constant=pytest.fail)
    assert result["agreement"]["interval"] == [None, None] and result["agreement"]["value"] in (0, 1) and err == ""


def test_the_report_goes_to_the_reader_and_the_status_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "w2s_lib", "audit"]
    done = subprocess.run([*command, write_csv(tmp_path / "pair.csv", *pair(50))], capture_output=True, text=True)
    assert done.returncode == 0 and "misfit" in done.stdout and not done.stderr
    done = subprocess.run([*command, tmp_path / "nowhere.csv"], capture_output=True, text=True)
    assert done.returncode == 2 and "nowhere.csv" in done.stderr and not done.stdout
