#!/usr/bin/python
# Copyright: the developers of deploykit
# MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: smoke_check
short_description: Request pages and check the answers
version_added: 0.1.0
description:
  - Runs C(deploykit smoke-check). It changes nothing; the task fails when a page is not as expected.
extends_documentation_fragment:
  - deploykit.site.site
options:
  urls:
    description: Addresses, or paths below O(base). Default are the pages of the configuration.
    type: list
    elements: str
    default: []
  base:
    description: The address that paths belong to. No configuration is needed then.
    type: str
  contains:
    description: Texts that every page must contain.
    type: list
    elements: str
    default: []
  lacks:
    description: Texts that no page may contain.
    type: list
    elements: str
    default: []
  status:
    description: The expected status of every page.
    type: int
  redirect:
    description: The expected redirect of every page.
    type: str
  within:
    description: Maximum response time per page, such as V(2s).
    type: str
  connect:
    description: Connect there instead, such as V(127.0.0.1:8000) or V(unix:/run/site.sock).
    type: str
  ca:
    description: A PEM file with the certificate of a private CA.
    type: path
  deadline:
    description: Repeat failing requests for at most this long, such as V(60s).
    type: str
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Check the pages of the configuration
  deploykit.site.smoke_check:
    directory: /srv/site

- name: Check one page of gunicorn itself
  deploykit.site.smoke_check:
    urls: [/about/]
    base: https://www.example.org/
    connect: 127.0.0.1:8000
    contains: [About]
"""

RETURN = r"""
pages:
  description: The pages and their answers, as C(docs/json.md) of deploykit describes them.
  returned: success
  type: list
  elements: dict
result:
  description: The pages that are not as expected.
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deploykit.site.plugins.module_utils.deploykit import SITE, Deploykit


def main():
    spec = {
        **SITE,
        "urls": {"type": "list", "elements": "str", "default": []},
        "base": {"type": "str"},
        "contains": {"type": "list", "elements": "str", "default": []},
        "lacks": {"type": "list", "elements": "str", "default": []},
        "status": {"type": "int"},
        "redirect": {"type": "str"},
        "within": {"type": "str"},
        "connect": {"type": "str"},
        "ca": {"type": "path"},
        "deadline": {"type": "str"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, required_by={"base": ["urls"]})
    deploykit = Deploykit(module)
    names = ("base", "contains", "lacks", "status", "redirect", "within", "connect", "ca", "deadline")
    document = deploykit.run("smoke-check", *deploykit.flags(*names), *module.params["urls"])
    module.exit_json(changed=False, pages=document["pages"])


if __name__ == "__main__":
    main()
