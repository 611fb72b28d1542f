#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: recover
short_description: Roll back a paused or unfinished update, or complete it
version_added: 0.1.0
description:
  - Runs C(deploykit recover). It rolls back a run that is paused, that was interrupted, or that left the site held in
    maintenance. Without such a run it changes nothing.
  - It does not tell whose run is paused. A playbook calls it only for runs that it began.
extends_documentation_fragment:
  - deploykit.site.site
options:
  forward:
    description: Complete an interrupted run instead. It rolls back only when a step or the smoke check fails.
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Roll back what is unfinished
  deploykit.site.recover:
    directory: /srv/site

- name: Complete an update that a power failure interrupted
  deploykit.site.recover:
    directory: /srv/site
    forward: true
"""

RETURN = r"""
recovered:
  description: Whether there was a run to recover.
  returned: success
  type: bool
report:
  description: The report of the run, as C(docs/json.md) of deploykit describes it. None when there was none, and in check mode.
  returned: success
  type: dict
exit_code:
  description: Why the recovery failed, by the exit code of deploykit. V(6) is held in maintenance.
  returned: failure
  type: int
hints:
  description: What a person can do.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import SITE, Deploykit


def main():
    spec = {**SITE, "forward": {"type": "bool", "default": False}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    deploykit = Deploykit(module)
    if module.check_mode:
        status = deploykit.run("status")
        waits = bool((status["running"] or {}).get("paused")) and not module.params["forward"]
        would = waits or status["unfinished_run"] is not None
        module.exit_json(changed=would, recovered=would, report=None)
    document = deploykit.run("recover", *deploykit.flags("forward"))
    # A preparation that is given up has changed nothing.
    changed = document["recovered"] and document["report"]["outcome"] != "refused"
    module.exit_json(changed=changed, recovered=document["recovered"], report=document["report"])


if __name__ == "__main__":
    main()
