#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: maintenance
short_description: Announce maintenance, or end it
version_added: 0.1.0
description:
  - Runs C(deploykit maintenance on) or C(deploykit maintenance off).
extends_documentation_fragment:
  - deploykit.site.site
options:
  state:
    description: Whether maintenance is announced.
    type: str
    choices: [present, absent]
    default: present
  page:
    description: Show the maintenance page as well. With O(state=absent) the page is always removed.
    type: bool
    default: false
  at:
    description: Start at this time C(HH:MM), in the site's time zone.
    type: str
  in:
    description: Start after this time, such as V(20m). Default is the notice of the configuration.
    type: str
  now:
    description: Start at once.
    type: bool
    default: false
  announcement:
    description: The message for users.
    type: str
attributes:
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Announce maintenance in half an hour
  deploykit.site.maintenance:
    directory: /srv/site
    in: 30m
    announcement: The database moves to a larger disk.

- name: End maintenance
  deploykit.site.maintenance:
    directory: /srv/site
    state: absent
"""

RETURN = r"""
before:
  description: The state before, in a few words.
  returned: success
  type: str
after:
  description: The state after, in a few words.
  returned: success
  type: str
reason:
  description: Why something was changed, or why not.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import (
    ONE_START,
    SITE,
    Deploykit,
    diff_of_change,
)


def main():
    spec = {
        **SITE,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "page": {"type": "bool", "default": False},
        "at": {"type": "str"},
        "in": {"type": "str"},
        "now": {"type": "bool", "default": False},
        "announcement": {"type": "str"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, mutually_exclusive=ONE_START)
    deploykit = Deploykit(module)
    args = ["off"]
    if module.params["state"] == "present":
        args = ["on", *deploykit.flags("at", "in", "now", "announcement", "page")]
    document = deploykit.run("maintenance", *args, *(["--check"] if module.check_mode else []))
    result = {name: document[name] for name in ("before", "after", "reason")}
    module.exit_json(changed=document["changed"], diff=diff_of_change(document), **result)


if __name__ == "__main__":
    main()
