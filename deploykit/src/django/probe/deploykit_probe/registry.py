"""Which function answers which request."""

from __future__ import annotations

from typing import Callable

from .kinds import Json

Answering = Callable[[Json], Json]

# The functions, by what requests say under `do`.
ANSWERING: dict[str, Answering] = {}


def answers(name: str) -> Callable[[Answering], Answering]:
    """Registers the function that answers requests of this name."""

    def register(function: Answering) -> Answering:
        """Registers the function as it is."""
        if name in ANSWERING:
            raise ValueError("two functions answer `%s`" % name)
        ANSWERING[name] = function
        return function

    return register
