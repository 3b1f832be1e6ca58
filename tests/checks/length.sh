#!/bin/sh
# SPDX-License-Identifier: MIT
# length.sh FOLDER BASELINE: functions have at most 70 lines, files 600, lines
# 80 characters. A ratchet: what the baseline lists may stay as long as it is
# there, and no longer; what has become shorter has to leave the baseline or
# be lowered in it, so that it cannot grow back.
#
# A baseline's line is "FILE KIND NAME SIZE", as this script prints them.
# Functions are found by their braces, alone in the first column; format.sh
# sees to it that they are there.
set -eu
. "$(dirname "$0")/files.sh"
baseline=$(realpath "$2")
cd "$1"

measure() {
    c_files . | xargs -r awk '
        function end_file() {
            if (rows > 600) print file, "file", "-", rows
            if (wide > 0) print file, "wide-lines", "-", wide
        }
        FNR == 1 { if (file != "") end_file(); file = FILENAME; wide = 0 }
        { rows = FNR }
        length($0) > 80 { wide++ }
        /^[A-Za-z_]/ && /\(/ {
            name = $0
            sub(/\(.*/, "", name)
            sub(/.*[ *]/, "", name)
        }
        /^{$/ { start = FNR }
        /^}$/ {
            if (FNR - start + 1 > 70)
                print file, "function", name, FNR - start + 1
        }
        END { if (file != "") end_file() }'
}

measure | awk -v baseline="$baseline" '
    BEGIN {
        while ((getline line < baseline) > 0) {
            if (line ~ /^#/ || line == "") continue
            split(line, part, " ")
            allowed[part[1] " " part[2] " " part[3]] = part[4]
        }
    }
    {
        key = $1 " " $2 " " $3
        seen[key] = 1
        if (!(key in allowed)) {
            print "newly too long: " $0
            failed = 1
        } else if ($4 > allowed[key]) {
            print "longer than before (" allowed[key] "): " $0
            failed = 1
        } else if ($4 < allowed[key]) {
            print "shorter, lower it in the baseline: " $0
            failed = 1
        }
    }
    END {
        for (key in allowed)
            if (!(key in seen)) {
                print "no longer too long, drop it from the baseline: " key
                failed = 1
            }
        exit failed
    }'
