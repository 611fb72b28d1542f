#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: update
short_description: Update a Django site, whole or from one point to the next
version_added: 0.1.0
description:
  - Runs C(deploykit update). When a step fails, deploykit rolls the host back, and the task fails.
  - With O(until) the run pauses at a point of the update, and another task lets it go on with O(continue). The run has a
    process of its own, which no lost connection ends. A run that nobody continues within C(site.pause-limit) of the
    configuration rolls back by itself.
  - In check mode it makes the plan, and changes nothing.
  - An update can take as long as its slowest migration. Set C(async) and C(poll) at the task, so that the connection need not
    last as long; C(deploykit status --follow) shows the run on the host meanwhile.
extends_documentation_fragment:
  - deploykit.site.site
  - deploykit.site.site.run
options:
  revision:
    description: A commit, tag or branch. Default is the tip of the configured branch.
    type: str
  clear:
    description: Collect all static files, and remove everything else from C(STATIC_ROOT).
    type: bool
    default: false
  look:
    description: Prepare completely, even when nothing seems to have changed.
    type: bool
    default: false
  until:
    description: Pause when the run has come so far. V(prepared) has changed nothing of the live site yet.
    type: str
    choices: [prepared, quiet, stopped, placed, migrated, started]
  continue:
    description:
      - Let the paused run go on, to O(until) or to its end, instead of beginning one.
      - It may be repeated. A task whose connection was lost finds the run where it is now.
    type: bool
    default: false
  digest:
    description: With O(continue), refuse unless the plan of the paused run has this digest.
    type: str
attributes:
  diff_mode:
    details: Only when the run is not begun, which is in check mode. Use M(deploykit.site.plan) to see it beforehand.
    support: partial
"""

EXAMPLES = r"""
- name: Update the site
  deploykit.site.update:
    directory: /srv/site
  become: true
  become_user: site
  async: 7200
  poll: 10

- name: Prepare version 2.4 while the old version serves
  deploykit.site.update:
    directory: /srv/site
    revision: v2.4
    until: prepared
  register: prepared

- name: Let the prepared update go on to its end
  deploykit.site.update:
    directory: /srv/site
    continue: true
    digest: "{{ prepared.paused.digest }}"
"""

RETURN = r"""
paused:
  description: The run that waits. None when the run has ended.
  returned: success
  type: dict
  contains:
    point:
      description: What it has done.
      type: str
    digest:
      description: The digest of its plan. Hosts with the same digest bring the same version, packages and migrations.
      type: str
    process:
      description: The process of the run.
      type: dict
    since:
      description: Since when it waits.
      type: str
    until:
      description: When it rolls back, unless it is told to go on before.
      type: str
report:
  description: The report of the run, as C(docs/json.md) of deploykit describes it. None while it waits, and in check mode.
  returned: success
  type: dict
plan:
  description: The plan.
  returned: in check mode
  type: dict
exit_code:
  description: Why the run failed, by the exit code of deploykit. V(5) is rolled back, V(6) is held in maintenance.
  returned: failure
  type: int
result:
  description: The report of the failed run.
  returned: failure
  type: dict
hints:
  description: What a person can do.
  returned: failure
  type: list
  elements: str
tail:
  description: The last lines of the program that failed.
  returned: failure
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import (
    ONE_START,
    RUN,
    SITE,
    Deploykit,
    diff_of,
)


def paused_at(deploykit):
    """Returns the point at which a run waits."""
    running = deploykit.run("status")["running"] or {}
    return (running.get("paused") or {}).get("point")


def now():
    """Returns the time as deploykit writes it."""
    second, fraction = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:09}Z"


def is_later(one, other):
    """Compares times as deploykit writes them: in UTC, with as many digits of the second as they need."""
    first, second = (whole.rstrip("Z").partition(".") for whole in (one, other))
    return (first[0], first[2].ljust(9, "0")) > (second[0], second[2].ljust(9, "0"))


def preview(module, deploykit):
    """Says what the task would do."""
    if module.params["continue"]:
        point = paused_at(deploykit)
        module.exit_json(changed=point not in (None, module.params["until"]), paused=None, report=None, plan=None)
    document = deploykit.plan()
    module.exit_json(changed=document["update"], diff=diff_of(document), plan=document["plan"], paused=None, report=None)


def main():
    spec = {
        **SITE,
        **RUN,
        "revision": {"type": "str"},
        "clear": {"type": "bool", "default": False},
        "look": {"type": "bool", "default": False},
        "until": {"type": "str", "choices": ["prepared", "quiet", "stopped", "placed", "migrated", "started"]},
        "continue": {"type": "bool", "default": False},
        "digest": {"type": "str"},
    }
    apart = [("continue", name) for name in ("revision", "at", "in", "announcement", "lock_wait")]
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, mutually_exclusive=ONE_START + apart)
    deploykit = Deploykit(module)
    if module.check_mode:
        preview(module, deploykit)
    if module.params["continue"]:
        begun = now()
        document = deploykit.run("update", "--continue", *deploykit.flags("until", "digest"))
    else:
        args = deploykit.start() + deploykit.flags("clear", "look", "until")
        if module.params["revision"]:
            args.append(module.params["revision"])
        document = deploykit.run("update", "--yes", *args)
    paused = document.get("paused")
    if paused:
        # A preparation has changed nothing, and a run that was there already has not moved.
        changed = is_later(paused["since"], begun) if module.params["continue"] else paused["point"] != "prepared"
        module.exit_json(changed=changed, paused=paused, report=None)
    module.exit_json(changed=document["outcome"] == "updated", paused=None, report=document)


if __name__ == "__main__":
    main()
