#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollback
short_description: Roll back the last finished update
version_added: 0.1.0
description:
  - Runs C(deploykit rollback).
  - In check mode it says whether the last run is an update that can be rolled back, and changes nothing.
extends_documentation_fragment:
  - deploykit.site.site
  - deploykit.site.site.run
options:
  run:
    description: The update, as C(deploykit history) names it. It is refused unless it is the last finished one.
    type: str
  from_copy:
    description: Restore the copy of the database from before the update. What was written since is lost.
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Go back to the version before
  deploykit.site.rollback:
    directory: /srv/site
    now: true
"""

RETURN = r"""
report:
  description: The report of the rollback, as C(docs/json.md) of deploykit describes it. None in check mode.
  returned: success
  type: dict
exit_code:
  description: Why the rollback failed, by the exit code of deploykit.
  returned: failure
  type: int
result:
  description: The report of the failed rollback.
  returned: failure
  type: dict
hints:
  description: What a person can do.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import ONE_START, RUN, SITE, Deploykit


def can_roll_back(deploykit):
    """Tells whether the last run is an update with a way back."""
    last = deploykit.run("status")["last_run"] or {}
    ways = ("from_copy",) if deploykit.params["from_copy"] else ("possible",)
    return last.get("outcome") == "updated" and (last.get("rollback") or {}).get("way") in ways


def main():
    spec = {**SITE, **RUN, "run": {"type": "str"}, "from_copy": {"type": "bool", "default": False}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, mutually_exclusive=ONE_START)
    deploykit = Deploykit(module)
    if module.check_mode:
        module.exit_json(changed=can_roll_back(deploykit), report=None)
    run = [module.params["run"]] if module.params["run"] else []
    report = deploykit.run("rollback", "--yes", *deploykit.start(), *deploykit.flags("from_copy"), *run)
    module.exit_json(changed=report["outcome"] == "updated", report=report)


if __name__ == "__main__":
    main()
