"""Type aliases. Types of Django are not checked: they differ between versions."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Set, Tuple

# The app and the name of a migration or of a model.
Key = Tuple[str, str]

# A request, an answer, or a part of one.
Json = Dict[str, Any]

# What a query found.
Rows = Sequence[Tuple[Any, ...]]

# Tables with their columns.
Tables = Dict[str, Set[str]]

# The options of a model's `Meta`.
Options = Dict[str, Any]

# Models as they were: name, fields and options.
Snapshot = Dict[Key, Tuple[str, Dict[str, Any], Options]]

# Of Django.
Connection = Any
Cursor = Any
Executor = Any
Field = Any
Loader = Any
Migration = Any
Operation = Any
ProjectState = Any
Settings = Any
