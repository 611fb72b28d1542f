"""Parts of the lines that say a schema."""

from __future__ import annotations

import collections
import hashlib
import re
from typing import Iterable, Iterator


def digest_of(text: str | None) -> str:
    """Returns what stands for a long definition."""
    return hashlib.sha256(plain(text or "").encode("utf-8")).hexdigest()[:12]


def numbered(lines: Iterable[str]) -> Iterator[str]:
    """Tells lines apart that say the same: a table may have an index twice."""
    seen: collections.Counter[str] = collections.Counter()
    for line in lines:
        seen[line] += 1
        yield line if seen[line] == 1 else "%s, no. %d" % (line, seen[line])


CAST = re.compile(
    r"::(?:character varying|double precision|bit varying|time(?:stamp)? with(?:out)? time zone|[\w.\"]+)"
    r"(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)


def plain(expression: object) -> str:
    """An expression without casts, brackets and space: PostgreSQL writes some of them otherwise once they are restored."""
    return re.sub(r"[\s()]", "", CAST.sub("", str(expression)))
