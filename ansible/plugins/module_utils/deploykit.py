# Copyright: the developers of deploykit
# MIT OR Apache-2.0
"""Runs the installed deploykit, and turns its documents into results."""

from __future__ import annotations

import json

SITE = {
    "directory": {"type": "path"},
    "config": {"type": "path"},
    "environment": {"type": "str", "choices": ["production", "staging", "development"]},
    "executable": {"type": "str", "default": "deploykit"},
}

RUN = {
    "at": {"type": "str"},
    "in": {"type": "str"},
    "now": {"type": "bool", "default": False},
    "announcement": {"type": "str"},
    "broken": {"type": "bool", "default": False},
    "rehearsal": {"type": "bool", "default": True},
    "lock_wait": {"type": "str"},
}

# Ansible keeps `message` for itself.
FLAGS = {"announcement": "message"}

# Only one of them says when a run begins.
ONE_START = [("at", "in", "now")]

DONE, UPDATE_WAITS, REFUSED, ROLLED_BACK = 0, 10, 4, 5

# The site is as before after these failures.
UNCHANGED = (2, 3, REFUSED, ROLLED_BACK)


class Deploykit:
    """The program on the host."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.program = self.params["executable"]
        if "/" not in self.program:
            places = ["/usr/local/bin", "~/.local/bin"]
            self.program = module.get_bin_path(self.program, required=True, opt_dirs=places)

    def try_to(self, *args):
        """Runs a command. Returns its exit code and its document."""
        command = [self.program, "--json", "--quiet"]
        for name in ("config", "environment"):
            if self.params[name]:
                command += [f"--{name}", self.params[name]]
        code, out, err = self.module.run_command(command + list(args), cwd=self.params["directory"])
        try:
            return code, json.loads(out)
        except ValueError:
            message = err.strip() or f"`{self.program}` ended with exit code {code} and without a document"
            self.module.fail_json(msg=message, exit_code=code, changed=code not in UNCHANGED)

    def run(self, *args, accept=(DONE,)):
        """Runs a command. Returns its document; a failure ends the task."""
        code, document = self.try_to(*args)
        if code not in accept:
            self.fail(code, document)
        return document

    def fail(self, code, document):
        """Ends the task with what a document of a failure says."""
        self.module.fail_json(
            msg=document.get("error") or f"exit code {code}",
            exit_code=code,
            hints=document.get("hints", []),
            tail=document.get("tail", []),
            result=document.get("result"),
            changed=code not in UNCHANGED,
        )

    def flags(self, *names):
        """Returns the arguments for options of the task that have the name of a flag."""
        args = []
        for name in names:
            value, flag = self.params[name], "--" + FLAGS.get(name, name.replace("_", "-"))
            if value is True:
                args.append(flag)
            elif isinstance(value, list):
                args += [f"{flag}={one}" for one in value]
            elif value:
                args.append(f"{flag}={value}")
        return args

    def start(self):
        """Returns the arguments that say how a run begins."""
        args = self.flags("at", "in", "now", "announcement", "broken", "lock_wait")
        return args if self.params["rehearsal"] else [*args, "--no-rehearsal"]

    def plan(self, *args):
        """Returns the document of the plan."""
        revision = [self.params["revision"]] if self.params["revision"] else []
        args = self.flags("broken", "clear", "look", "lock_wait") + list(args) + revision
        return self.run("plan", *(args if self.params["rehearsal"] else ["--no-rehearsal", *args]))


def diff_of(document):
    """Returns what a plan changes, in the form of Ansible's diff mode."""
    before, after = [], []
    for step in (document["plan"] or {}).get("steps", []):
        if step["needed"]:
            before.append(f"{step['step']}: {step['before']}".rstrip(": "))
            after.append(f"{step['step']}: {step['after'] or step['reason']}")
            after += [f"  {detail}" for detail in step["details"]]
    headers = {"before_header": "live version", "after_header": "after the update"}
    return {"before": lines(before), "after": lines(after), **headers}


def diff_of_change(document):
    """Returns what a single operation changes, in the same form."""
    after = [document["after"] or document["reason"], *document["details"]] if document["changed"] else []
    name = document["operation"]
    return {"before": lines([document["before"]]), "after": lines(after), "before_header": name, "after_header": name}


def lines(texts):
    """Joins lines."""
    return "".join(f"{text}\n" for text in texts if text)
