# Copyright: the developers of deploykit
# MIT OR Apache-2.0
"""What the documentation of all modules shares."""

from __future__ import annotations


class ModuleDocFragment:
    """The options that say which site is meant, and what every module returns."""

    DOCUMENTATION = r"""
options:
  directory:
    description:
      - The directory of C(deploykit.toml), or one below it.
      - Without it, O(config) or the working directory of the connection counts.
    type: path
  config:
    description: The configuration, if it is not C(deploykit.toml) in O(directory) or above.
    type: path
  environment:
    description: Overrides the environment of the configuration.
    type: str
    choices: [production, staging, development]
  executable:
    description: The program, by its path, or by its name in C(PATH), C(/usr/local/bin) or C(~/.local/bin).
    type: str
    default: deploykit
attributes:
  check_mode:
    description: Can run in check mode without changing the site.
    support: full
  diff_mode:
    description: Returns what would change or has changed.
requirements:
  - deploykit on the host
notes:
  - The task runs as the user who owns the site. Use C(become_user).
  - deploykit replaces secret values by C(***) in everything that it prints, so also in results.
author:
  - The developers of deploykit (@deploykit)
"""

    # How a run begins; for the modules that begin one.
    RUN = r"""
options:
  at:
    description: Start the maintenance at this time C(HH:MM), in the site's time zone.
    type: str
  in:
    description: Start the maintenance after this time, such as V(20m).
    type: str
  now:
    description: Start at once, without the notice of the configuration.
    type: bool
    default: false
  announcement:
    description: The message for users.
    type: str
  broken:
    description: Go on although no page is as expected, since this run fixes them.
    type: bool
    default: false
  rehearsal:
    description: Whether migrations, pages and workers are rehearsed on copies of the databases, as the configuration says.
    type: bool
    default: true
  lock_wait:
    description: Wait at most this long for another run to end, such as V(15m).
    type: str
"""
