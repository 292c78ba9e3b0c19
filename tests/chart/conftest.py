"""What all tests of the chart begin with: the tools must be there."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

from chart import HELMS  # noqa: E402


def pytest_configure(config):
    for helm in HELMS.values():
        if not helm.exists():
            pytest.exit(f"{helm} is not there: run tests/chart/run", 1)
