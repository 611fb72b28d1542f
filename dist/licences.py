"""Prints the licences of all crates that the binary is compiled from, and of the C code that they bring.

Usage: licences.py TARGET
"""

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
# C code that a crate brings: crate, directories.
BUNDLED = {"libgit2-sys": ["libgit2"], "libz-sys": ["src/zlib"]}


def main() -> None:
    """Prints the list of the crates, then each text once, below the names of those that it is for."""
    crates = sorted(crates_of(sys.argv[1]), key=lambda crate: (crate["name"], crate["version"]))
    texts: dict[str, list[str]] = {}
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        print(f"{name}: {crate['license']}")
        for path, text in licences(crate):
            texts.setdefault(text, []).append(f"{name}, {path}")
    for text, names in texts.items():
        print("\n" + "=" * 80, *names, "", text, sep="\n")


def crates_of(target: str) -> list[dict]:
    """Returns the crates of other projects that the binary needs."""
    options = ["--format-version=1", "--locked", "--filter-platform", target]
    output = subprocess.run(["cargo", "metadata", *options], check=True, stdout=subprocess.PIPE).stdout
    metadata = json.loads(output)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found: set[str] = set()
    left = [name for name, package in packages.items() if package["name"] == "deploykit-cli"]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            needed = [other for other in nodes[name]["deps"] if any(kind["kind"] is None for kind in other["dep_kinds"])]
            left += [other["pkg"] for other in needed]
    return [packages[name] for name in found if packages[name]["source"]]


def licences(crate: dict) -> list[tuple[str, str]]:
    """Returns the licence files of a crate, by their paths in it."""
    top = Path(crate["manifest_path"]).parent
    found = []
    for directory in [top, *(top / name for name in BUNDLED.get(crate["name"], ()))]:
        files = sorted(path for path in directory.iterdir() if path.is_file() and path.name.upper().startswith(NAMES))
        found += [(str(path.relative_to(top)), path.read_text(encoding="utf-8", errors="replace").strip()) for path in files]
    if not found:
        sys.exit(f"{sys.argv[0]}: {crate['name']} has no licence file")
    return found


main()
