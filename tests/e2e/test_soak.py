"""The soak and isolation runs at a size for every day; `make soak` runs them whole."""

import subprocess
import sys

import pytest

from support.processes import repository

SOAK = repository() / "tests/soak/soak.py"


@pytest.mark.parametrize("what, requests", [
    ("worker", 500),     # R-ENG-4: all answered, no descriptor left; memory needs the long run
    ("serve", 500),
    ("isolation", 300),  # R-ENG-3 through HTTP
])
def test_random_requests_of_all_kinds(what, requests):
    done = subprocess.run([sys.executable, str(SOAK), what, "--requests", str(requests),
                           "--no-memory"], capture_output=True, text=True, timeout=390)

    assert done.returncode == 0, done.stdout + done.stderr
