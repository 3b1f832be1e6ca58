#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what is missing of packages.txt. As root, or with sudo.
set -eu
list="$(dirname "$0")/packages.txt"
missing=""
# shellcheck disable=SC2013
for package in $(grep -v '^#' "$list"); do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
        grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

echo "installing:$missing"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "not root and no sudo; as root, run: apt-get install$missing" >&2
        exit 1
    }
    sudo=sudo
fi
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends $missing
