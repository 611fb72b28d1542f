"""Writes `poetry.lock` or `Pipfile.lock` for what is installed in a virtualenv, as the tools would, without them.

lock.py poetry|pipenv TREE WHEELS PYTHON: hashes are those of a directory of wheels.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

kind, tree, wheels, python = sys.argv[1:]
tree = Path(tree)
INSTALLED = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
installed = subprocess.run([python, "-c", INSTALLED], check=True, capture_output=True, text=True).stdout.split()
names = sorted({re.sub("[-_.]+", "-", name).lower() for name in installed} - {"pip"})


def digest(content, **form):
    return hashlib.sha256(json.dumps(content, sort_keys=True, **form).encode()).hexdigest()


def wheel(name):
    """Returns the version and the file of a package."""
    safe = re.sub("[-_.]+", "_", name)
    files = [file for file in Path(wheels).glob("*.whl") if file.name.lower().startswith(safe.lower() + "-")]
    assert len(files) == 1, (name, files)
    return files[0].name.split("-")[1], files[0]


def poetry():
    project = tomllib.loads((tree / "pyproject.toml").read_text())
    [source] = project["tool"]["poetry"]["source"]
    text = ""
    for name in names:
        version, file = wheel(name)
        hash = hashlib.sha256(file.read_bytes()).hexdigest()
        text += f'[[package]]\nname = "{name}"\nversion = "{version}"\ndescription = ""\noptional = false\n'
        text += (
            f'python-versions = "*"\ngroups = ["main"]\nfiles = [{{file = "{file.name}", hash = "sha256:{hash}"}}]\n'
        )
        text += f'[package.source]\ntype = "legacy"\nurl = "{source["url"]}"\nreference = "{source["name"]}"\n\n'
    kept = {key: project["project"][key] for key in ("requires-python", "dependencies")}
    own = {key: project["tool"]["poetry"][key] for key in ("source", "group")}
    hash = digest({"project": kept, "tool": {"poetry": own}})
    text += (
        f'[metadata]\nlock-version = "2.1"\npython-versions = "{kept["requires-python"]}"\ncontent-hash = "{hash}"\n'
    )
    (tree / "poetry.lock").write_text(text)


def pipenv():
    pipfile = tomllib.loads((tree / "Pipfile").read_text())
    default = {}
    for name in names:
        version, file = wheel(name)
        hash = hashlib.sha256(file.read_bytes()).hexdigest()
        default[name] = {
            "hashes": [f"sha256:{hash}"],
            "index": pipfile["source"][0]["name"],
            "version": f"=={version}",
        }
    local = {name: package for name, package in pipfile["packages"].items() if "path" in package}
    meta = {"sources": pipfile["source"], "requires": pipfile.get("requires", {})}
    content = {"_meta": meta, "default": pipfile["packages"], "develop": pipfile.get("dev-packages", {})}
    hash = digest(content, separators=(",", ":"))
    lock = {"_meta": {"hash": {"sha256": hash}, "pipfile-spec": 6, **meta}, "default": default | local, "develop": {}}
    (tree / "Pipfile.lock").write_text(json.dumps(lock, indent=4))


{"poetry": poetry, "pipenv": pipenv}[kind]()
