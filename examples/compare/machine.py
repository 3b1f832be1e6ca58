# SPDX-License-Identifier: MIT
"""What the figures were measured on, as far as they depend on it."""

import os
import platform
import time


def first_field(path, name):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(name):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def filesystem_of(directory):
    """Type and device of what the directory is on: the longest mount point
    that it begins with, the last of equal ones."""
    path, best, found = os.path.realpath(directory), "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            device, place, kind, *_ = line.split(" ")
            inside = place == "/" or path == place or path.startswith(
                place + "/")
            if inside and len(place) >= len(best):
                best, found = place, f"{kind} on {device}"
    return found


def describe(directory, replikvd):
    kib = first_field("/proc/meminfo", "MemTotal").split()[0]
    memory = f"{int(kib) / (1 << 20):.1f} GiB" if kib.isdecimal() else kib
    built = time.localtime(os.path.getmtime(replikvd))
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processors": f"{os.cpu_count()} of " +
                      first_field("/proc/cpuinfo", "model name"),
        "memory": memory,
        "kernel": f"{platform.system()} {platform.release()}",
        "data on": filesystem_of(directory),
        "replikvd": "built " + time.strftime("%Y-%m-%d %H:%M", built),
    }
