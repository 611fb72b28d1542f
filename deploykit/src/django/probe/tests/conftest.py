"""What tests share."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Iterator

import pytest

NAMES = (
    "amqp asgiref billiard celery click click_didyoumean click_plugins click_repl django kombu packaging prompt_toolkit"
    " python_dateutil six sqlparse typing_extensions tzlocal vine wcwidth"
)


# What serves, beside Django.
SERVERS = (
    "gevent greenlet gunicorn h11 h2 hpack httptools hypercorn hyperframe priority uvicorn uvicorn_worker uvloop wsproto"
    " zope_event zope_interface"
)


def extract(names: str, directory: Path) -> Path:
    """Extracts the wheels that `tests/install` fetched into a directory."""
    tools = os.environ.get("DEPLOYKIT_TEST_TOOLS") or Path(__file__).parents[5] / "target/test-tools"
    for name in names.split():
        (wheel,) = Path(tools, "wheels").glob(name + "-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
    return directory


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory with Django and Celery."""
    return extract(NAMES, tmp_path_factory.mktemp("packages") / "site-packages")


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    """Returns a directory with Django and what serves it, which every user may read."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield extract("asgiref click django packaging sqlparse " + SERVERS, Path(directory))
