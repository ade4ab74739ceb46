"""Against a process of our own that computes in a grandchild, and against the clock that the system keeps for us."""

import math
import os
import resource
import subprocess
import sys
import time

import pytest

from ln3d.data.processor_use import processor_use

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

GRANDCHILD = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
CHILD = (
    "import subprocess, sys, time\n"
    "other = subprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
    "other.wait()\nprint(flush=True)\ninput()"
)


def own_and_children():
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def until(happens):
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline


def test_our_own_time_and_that_of_ended_children_is_what_the_system_says():
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    before = own_and_children()
    used, runnable = processor_use(os.getpid())
    assert runnable and before - 0.1 <= used <= own_and_children() + 0.1


def test_what_children_of_children_use_counts_while_they_live_and_when_they_have_ended():
    command = [sys.executable, "-S", "-c", CHILD, GRANDCHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        until(lambda: processor_use(process.pid)[0] > 0.15)
        assert processor_use(process.pid)[1]  # the child waits: it is the grandchild that wants to go on
        process.stdout.readline()
        until(lambda: not processor_use(process.pid)[1])
        alive, _ = processor_use(process.pid)
        assert alive >= 0.28
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        ended, _ = processor_use(process.pid)
        assert alive - 0.02 <= ended < alive + 0.5
        process.stdin.write("\n")
    assert processor_use(process.pid) == (math.inf, False)
