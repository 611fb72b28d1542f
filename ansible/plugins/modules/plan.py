#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plan
short_description: Show what an update would do, and why
version_added: 0.1.0
description:
  - Runs C(deploykit plan), which prepares an update beside the live site and removes it again. The live site stays untouched.
  - It is never V(changed). In diff mode it shows what an update would change.
extends_documentation_fragment:
  - deploykit.site.site
options:
  revision:
    description: A commit, tag or branch. Default is the tip of the configured branch.
    type: str
  broken:
    description: Go on although no page is as expected, since the update fixes them.
    type: bool
    default: false
  clear:
    description: Collect all static files, and remove everything else from C(STATIC_ROOT).
    type: bool
    default: false
  look:
    description: Prepare completely, even when nothing seems to have changed.
    type: bool
    default: false
  rehearsal:
    description: Whether the update is rehearsed on copies of the databases, as the configuration says.
    type: bool
    default: true
  lock_wait:
    description: Wait at most this long for another run to end, such as V(15m).
    type: str
attributes:
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Look what an update would do
  deploykit.site.plan:
    directory: /srv/site
  diff: true
  register: waiting

- name: Say that an update is available
  ansible.builtin.debug:
    msg: "{{ waiting.plan.to }} is available"
  when: waiting.available
"""

RETURN = r"""
available:
  description: Whether an update is available.
  returned: success
  type: bool
reason:
  description: Why none is available.
  returned: success
  type: str
plan:
  description: The plan, as C(docs/json.md) of deploykit describes it. None when no update is available.
  returned: success
  type: dict
warnings:
  description: What the configuration lacks.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import SITE, Deploykit, diff_of


def main():
    spec = {
        **SITE,
        "revision": {"type": "str"},
        "broken": {"type": "bool", "default": False},
        "clear": {"type": "bool", "default": False},
        "look": {"type": "bool", "default": False},
        "rehearsal": {"type": "bool", "default": True},
        "lock_wait": {"type": "str"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    document = Deploykit(module).plan()
    for warning in document["warnings"]:
        module.warn(warning)
    result = {"available": document["update"], "reason": document["reason"], "plan": document["plan"]}
    module.exit_json(changed=False, diff=diff_of(document), **result)


if __name__ == "__main__":
    main()
