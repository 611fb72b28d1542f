"""What tests share."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

NAMES = (
    "amqp asgiref billiard celery click click_didyoumean click_plugins click_repl django kombu packaging prompt_toolkit"
    " python_dateutil six sqlparse typing_extensions tzlocal vine wcwidth"
)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory with Django and Celery, from the wheels that `tests/install` fetched."""
    tools = os.environ.get("DEPLOYKIT_TEST_TOOLS") or Path(__file__).parents[5] / "target/test-tools"
    directory = tmp_path_factory.mktemp("packages") / "site-packages"
    for name in NAMES.split():
        (wheel,) = Path(tools, "wheels").glob(name + "-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
    return directory
