"""Freed memory stays with a process that asked for it; the benchmark sees all processes."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, torch
from sim.allocator import keep_freed_memory
torch.set_num_threads(1)
kept = keep_freed_memory() if {keep} else False
def work():
    for _ in range(20):
        torch.ones(10_000_000)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> tuple[bool, int]:
    code = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, count = map(int, done.stdout.split())
    return bool(kept), count


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_a_process_that_keeps_its_memory_is_not_given_fresh_pages_again_and_again():
    kept, few = faults(keep=True)
    if not kept:
        pytest.skip("this C library has no mallopt")
    _, many = faults(keep=False)
    # 40 MB a round, 20 rounds, in pages of 4 KB or, with huge pages, a few of 2 MB.
    assert few < 40 < many


STARTS_FROM_A_THREAD = """
import subprocess, sys, threading
def start():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
    print(child.pid, flush=True)
    child.wait()
threading.Thread(target=start).start()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_the_benchmark_counts_what_a_thread_started():
    own = Path("/proc/self/task").glob("*/children")
    if not list(own):
        pytest.skip("this kernel does not list children")
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    memory = runpy.run_path(str(script))
    command = [sys.executable, "-c", STARTS_FROM_A_THREAD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as parent:
        child = int(parent.stdout.readline())
        assert memory["processes"](parent.pid) == [parent.pid, child]
        assert min(map(memory["held"], (parent.pid, child))) > 0
        parent.stdin.close()
    assert memory["processes"](child) == [child]
    assert memory["held"](child) == 0
