# SPDX-License-Identifier: MIT
"""A network of its own for every node, on one bridge: what `ip netns` and
iptables do to it is seen by nobody else, and is gone when the test is."""

import os
import subprocess
import sys

from alone import SKIPPED, alone, run
from harness import Cluster

SUBNET = "10.99.0"


def alone_with_network():
    """As `alone`, for who makes a Network; also skipped without iptables."""
    alone("--net", "--mount")
    if subprocess.run(["iptables", "-L"], check=False,
                      stdout=subprocess.DEVNULL).returncode != 0:
        print("skipped: iptables does not work here")
        sys.exit(SKIPPED)


class Network:
    """Hosts 1, 2, ... on a bridge that the test itself can reach, too."""

    def __init__(self, count):
        self.names = [f"replikv-{os.getpid()}-{i + 1}" for i in range(count)]
        # `ip netns` keeps names in files: ours, in memory, not the machine's.
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "address", "add", f"{SUBNET}.254/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for i, name in enumerate(self.names):
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"host{i}", "type", "veth", "peer",
                "name", "eth0", "netns", name)
            run("ip", "link", "set", f"host{i}", "master", "bridge", "up")
            self.inside(i, "ip", "link", "set", "lo", "up")
            self.inside(i, "ip", "address", "add", f"{self.address(i)}/24",
                        "dev", "eth0")
            self.inside(i, "ip", "link", "set", "eth0", "up")

    def prefix(self, i):
        """Of a command that is to run on the host."""
        return ["ip", "netns", "exec", self.names[i]]

    def inside(self, i, *command):
        run(*self.prefix(i), *command)

    def address(self, i):
        return f"{SUBNET}.{i + 1}"

    def cluster(self, engines):
        """Of three nodes, each on a host, that soon give up who is silent."""
        cluster = Cluster(engines, sections={
            "listen": {"allow_any": "true"},
            "replication": {"request_timeout_ms": 1000,
                            "lane_timeout_ms": 1500}})
        for i, node in enumerate(cluster.nodes):
            node.host, node.prefix = self.address(i), self.prefix(i)
        return cluster

    def cut(self, i, others, chains=("INPUT", "OUTPUT")):
        """Host i hears (INPUT) or reaches (OUTPUT) the others no more."""
        for chain in chains:
            for other in others:
                flag = "-s" if chain == "INPUT" else "-d"
                self.inside(i, "iptables", "-A", chain, flag,
                            self.address(other), "-j", "DROP")

    def heal(self, i):
        self.inside(i, "iptables", "-F")
