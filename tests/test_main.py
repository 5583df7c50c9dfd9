"""python -m w2s_lib starts the command line, and hands its status to the shell."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["audti"], 2)])
def test_the_package_runs(arguments, status):
    done = subprocess.run([sys.executable, "-m", "w2s_lib", *arguments], capture_output=True, text=True)
    assert done.returncode == status and "usage: python -m w2s_lib" in done.stdout + done.stderr
