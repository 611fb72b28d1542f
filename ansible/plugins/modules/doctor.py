#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: doctor
short_description: Check whether a site is ready for an update
version_added: 0.1.0
description:
  - Runs C(deploykit doctor), which only reads. It names everything that would refuse an update or let it fail, and what would make its
    window shorter.
  - The task fails if the site is not ready. Suggestions do not let it fail.
extends_documentation_fragment:
  - deploykit.site.site
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Check whether the site is ready
  deploykit.site.doctor:
    directory: /srv/site
  register: site_doctor

- name: Show what would make its windows shorter
  ansible.builtin.debug:
    msg: "{{ item.text }}: {{ item.way_out }}"
  loop: "{{ site_doctor.findings | selectattr('level', 'equalto', 'advice') }}"
  loop_control:
    label: "{{ item.topic }}"
"""

RETURN = r"""
ready:
  description: Whether no finding is a problem.
  returned: if the site was examined
  type: bool
findings:
  description: What was found, as C(docs/json.md) of deploykit describes it.
  returned: if the site was examined
  type: list
  elements: dict
windows:
  description: The windows of the last updates.
  returned: if the site was examined, and windows were measured
  type: dict
hints:
  description: What a person can do.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import SITE, Deploykit


def main():
    module = AnsibleModule(argument_spec=dict(SITE), supports_check_mode=True)
    deploykit = Deploykit(module)
    code, document = deploykit.try_to("doctor")
    if "findings" not in document:
        deploykit.fail(code, document)
    findings = document["findings"]
    result = {"changed": False, "ready": document["ready"], "findings": findings, "windows": document["windows"]}
    if document["ready"]:
        module.exit_json(**result)
    problems = [finding for finding in findings if finding["level"] == "problem"]
    told = "; ".join(f"{finding['topic']}: {finding['text']}" for finding in problems)
    hints = [finding["way_out"] for finding in problems if finding["way_out"]]
    module.fail_json(msg=f"the site is not ready for an update: {told}", exit_code=code, hints=hints, **result)


if __name__ == "__main__":
    main()
