# SPDX-License-Identifier: MIT
"""Programs that are started, waited for with a deadline, and ended by their
pids. A signal only sets a mark, which every wait looks at, so that nothing is
left half done: what was started is ended, and what was measured is kept."""

import os
import signal
import subprocess
import tempfile
import time

LOOK_EVERY_S = 0.05
SAID_MAX = 500


class Failed(Exception):
    """Something did not work; the text says what."""


class Stopped(Exception):
    """The user, or the bound of time, ended all of it."""


class Watch:
    """What ends everything before its time: a signal, or running late."""

    def __init__(self):
        self.why, self.status, self.end = None, 1, None

    def begin(self, bound_s):
        self.end = time.monotonic() + bound_s
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)

    def on_signal(self, number, _):
        self.why = "interrupted"
        self.status = 128 + number

    def check(self):
        if self.why is None and self.end and time.monotonic() > self.end:
            self.why = "it took longer than it was given"
        if self.why:
            raise Stopped(self.why)

    def pause(self, seconds):
        self.check()
        time.sleep(seconds)
        self.check()

    def wait_for(self, what, condition, deadline_s):
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                raise Failed(f"waited {deadline_s:.0f} s for {what}")
            self.pause(LOOK_EVERY_S)


def start(command, **how):
    """In a session of its own, for Ctrl-C is meant for this program alone; and
    not to outlive it, whatever ends that."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        stdin=subprocess.DEVNULL, start_new_session=True, **how)


def end(process):
    if process is not None and process.poll() is None:
        process.kill()
    if process is not None:
        process.wait()


class Program:
    """One that is waited for, whose output goes to files so that it never
    waits for a reader. Used as a context, which ends it."""

    def __init__(self, command, environment=None, directory=None):
        self.name = os.path.basename(command[0])
        # Closed with this object's context.
        self.out = tempfile.TemporaryFile()
        self.said = tempfile.TemporaryFile()
        self.process = start(command, stdout=self.out, stderr=self.said,
                             cwd=directory,
                             env=dict(os.environ, **(environment or {})))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.out.close()
        self.said.close()

    def is_running(self):
        return self.process.poll() is None

    @staticmethod
    def text_of(file):
        file.seek(0)
        return file.read().decode(errors="replace")

    def output(self, statuses=(0,)):
        """What it printed, if it did and ended with one of these."""
        text = self.text_of(self.out)
        if self.process.returncode not in statuses or not text:
            raise Failed(f"{self.name} ended with {self.process.returncode}: "
                         f"{self.text_of(self.said).strip()[-SAID_MAX:]}")
        return text


def run(watch, command, deadline_s, statuses=(0,), **how):
    """What the program printed."""
    with Program(command, **how) as program:
        watch.wait_for(f"{program.name} to end",
                       lambda: not program.is_running(), deadline_s)
        return program.output(statuses)
