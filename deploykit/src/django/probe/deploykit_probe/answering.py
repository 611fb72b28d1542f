"""Answers one request."""

from __future__ import annotations

from . import patience
from .connections import Directed, close_all
from .errors import failure
from .kinds import Json
from .patience import Watched
from .registry import ANSWERING


def answered(request: Json) -> Json:
    """Answers a request."""
    alias = request.get("database")
    try:
        with Directed(request.get("direct")), Watched(alias):
            try:
                return {"ok": ANSWERING[request["do"]](request)}
            except BaseException as error:
                return failure(error)
    except BaseException as error:
        return failure(error)


def let_go() -> None:
    """Holds no connection and no lock while it waits."""
    patience.change_no_more()
    close_all()
