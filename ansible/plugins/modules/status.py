#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: Show the version, the services, and a running or unfinished update
version_added: 0.1.0
description:
  - Runs C(deploykit status). It changes nothing.
extends_documentation_fragment:
  - deploykit.site.site
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Look at the site
  deploykit.site.status:
    directory: /srv/site
  become: true
  become_user: site
  register: site

- name: Stop when a person is needed
  ansible.builtin.assert:
    that: site.status.unfinished_run is none
    fail_msg: "`deploykit recover` is needed"
"""

RETURN = r"""
status:
  description: The document of C(deploykit status --json), which C(docs/json.md) of deploykit describes.
  returned: success
  type: dict
  contains:
    commit:
      description: The live commit.
      type: str
    running:
      description: The run that has locked the site, or none. Its C(paused) says where it waits.
      type: dict
    unfinished_run:
      description: A run that was interrupted, or that left the site held in maintenance.
      type: str
    maintenance_page:
      description: Whether the maintenance page is up.
      type: bool
    last_run:
      description: The newest report.
      type: dict
    services:
      description: The services, and how they are.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import SITE, Deploykit


def main():
    module = AnsibleModule(argument_spec=dict(SITE), supports_check_mode=True)
    module.exit_json(changed=False, status=Deploykit(module).run("status"))


if __name__ == "__main__":
    main()
