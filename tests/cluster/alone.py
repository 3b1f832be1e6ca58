# SPDX-License-Identifier: MIT
"""Namespaces of its own for a test: what it mounts and which networks it makes
is seen by nobody else, and is gone when it ends, however that is."""

import os
import subprocess
import sys

SKIPPED = 77


def alone(*spaces):
    """Run the program again in namespaces of its own (--net, --mount), or end
    it as skipped where that is not allowed."""
    mark = "REPLIKV_TEST_ALONE"
    if os.environ.pop(mark, None):
        return
    command = ["unshare", *spaces, "--propagation=private"]
    if subprocess.run([*command, "true"], check=False).returncode != 0:
        print(f"skipped: {' '.join(command)} is not allowed here")
        sys.exit(SKIPPED)
    os.environ[mark] = "yes"
    os.execvp(command[0], [*command, *sys.orig_argv])


def run(*command):
    subprocess.run(command, check=True)
