# SPDX-License-Identifier: MIT
"""What the benches of whole clusters share: load by `replikv bench`."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.setdefault(
    "REPLIKV_BUILD", os.path.join(HERE, "..", "..", "build", "release"))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
from harness import REPLIKV  # noqa: E402

# For Cluster: a bucket in which puts leave no siblings.
SECTIONS = {"buckets": json.dumps([{"name": "latest", "kind": "lww"}])}


def load(nodes, mix, keys, seconds, clients, in_flight, *more):
    """The summary of one run through these nodes; in_flight is of all
    clients."""
    done = subprocess.run(
        [REPLIKV, "--json", "bench", "--bucket", "latest", "--mix", mix,
         "--keys", str(keys), "--clients", str(clients),
         "--inflight", str(in_flight // clients), "--warmup", "0",
         "--duration", str(seconds), *more],
        capture_output=True, text=True, check=False,
        env=dict(os.environ, REPLIKV_ENDPOINTS=",".join(
            node.endpoint() for node in nodes)))
    assert done.returncode in (0, 3, 4), done.stderr
    summary = json.loads(done.stdout)
    assert summary["failed"] == 0, summary["errors"]
    return summary
