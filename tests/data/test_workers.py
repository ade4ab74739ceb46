import subprocess
import sys
import time

import pytest

from ln3d.data.workers import GuardedPool
from ln3d.errors import LN3DError, RecipeError

OS = "__import__('os')"


def outcomes(tasks, workers=2, seconds=60.0, memory=2_000_000_000):
    """Let workers evaluate expressions: the built-in `eval` is something that every process can import."""
    with GuardedPool(eval, workers, seconds, memory) as pool:
        return {outcome.task: outcome for outcome in pool.run(tasks)}


def test_every_kind_of_failure_is_an_outcome_and_the_others_go_on():
    tasks = {
        "b'one'": "",
        "1 / 0": "ZeroDivisionError: division by zero",
        f"{OS}.kill({OS}.getpid(), 11)": "crashed its worker (SIGSEGV)",
        "bytes(10**11)": "needs more memory than dataset.limits.memory_bytes",
        f"{OS}._exit(3)": "crashed its worker (exit code 3)",
        f"{OS}.kill({OS}.getpid(), 9)": "its worker was killed (SIGKILL), as the system does when memory runs out",
        f"{OS}.abort()": "crashed its worker (SIGABRT)",
        "(_ for _ in ()).throw(__import__('ln3d.errors').errors.MeshError('no triangles'))": "no triangles",
        "b'two'": "",
        "bytes(5_000_000)": "",
    }
    found = outcomes(tasks)
    assert {task: outcome.reason for task, outcome in found.items()} == tasks
    assert found["b'two'"].result == b"two"
    assert found["bytes(5_000_000)"].result == bytes(5_000_000)
    assert found["1 / 0"].result is None


RAISE = "(_ for _ in ()).throw"
FAULTS = {
    f"{RAISE}(__import__('ln3d.errors').errors.RecipeError('no renderer', 'Install it.'))": (
        RecipeError,
        "no renderer",
        "Install it.",
    ),
    f"{RAISE}(__import__('importlib').import_module('ln3d.data.backends.blender_process').BlenderNotStarted('no'))": (
        RecipeError,
        "Blender does not start: no",
        "",
    ),
    "__import__('a_module_that_is_nowhere')": (
        LN3DError,
        "this Python cannot draw: ModuleNotFoundError: No module named 'a_module_that_is_nowhere'",
        "install what is missing, then run the same command again",
    ),
    f"{RAISE}(OSError(28, 'No space left on device', '/tmp/x'))": (
        LN3DError,
        "drawing needs room on the disk: [Errno 28] No space left on device: '/tmp/x'",
        "make room",
    ),
}


@pytest.mark.parametrize("task", FAULTS)
def test_what_is_wrong_with_the_machine_ends_the_run_and_is_no_outcome(task):
    kind, message, hint = FAULTS[task]
    found = []
    with GuardedPool(eval, 1, 60.0, 2_000_000_000) as pool:
        with pytest.raises(LN3DError) as caught:
            for outcome in pool.run(["b'before'", task, "b'after'"]):
                found.append(outcome)
        assert type(caught.value) is kind and caught.value.message == message and hint in caught.value.hint
        assert [(outcome.task, outcome.reason) for outcome in found] == [("b'before'", "")]
        assert [outcome.result for outcome in pool.run(["b'again'"])] == [b"again"]


@pytest.mark.parametrize(
    "error",
    ["ImportError('libx.so: failed to map segment from shared object')", "OSError(12, 'Cannot allocate memory')"],
)
def test_what_cannot_be_loaded_for_lack_of_memory_is_the_fault_of_the_object(error):
    task = f"{RAISE}({error})"
    assert outcomes([task], workers=1)[task].reason == "needs more memory than dataset.limits.memory_bytes"


def test_a_reason_is_one_line_that_can_be_printed():
    noise = "raise_(ValueError('a\\n\\tb\\x1b[31m \\udcff' + 'x' * 1000))"
    task = noise.replace("raise_(", "(_ for _ in ()).throw(")
    reason = outcomes([task], workers=1)[task].reason
    assert reason.startswith("ValueError: a b [31m xxx")
    assert len(reason) == 300 and reason.endswith("...") and reason.isprintable()


@pytest.mark.parametrize(
    "task",
    [
        "__import__('socket').create_connection(('127.0.0.1', 9), 1)",
        "__import__('urllib.request').request.urlopen('http://a.example/b')",
    ],
)
def test_a_worker_stays_offline(task):
    assert outcomes([task], workers=1)[task].reason == "reaches for the network"


@pytest.mark.parametrize("number", [9, 15])
def test_a_task_whose_worker_is_killed_is_begun_again(tmp_path, number):
    lives = tmp_path / "lives"
    lives.write_text("")
    live = f"(p := __import__('pathlib').Path({str(lives)!r})) and p.write_text(p.read_text() + 'x')"
    task = f"({live}) > 2 and b'done' or {OS}.kill({OS}.getpid(), {number})"
    assert outcomes([task, "b'other'"], workers=1)[task].result == b"done"
    assert lives.read_text() == "xxx"
    lives.write_text("")
    endless = f"({live}) and {OS}.kill({OS}.getpid(), {number})"
    assert "worker" in outcomes([endless], workers=1)[endless].reason
    assert lives.read_text() == "xxx"


def test_workers_that_are_killed_while_they_start_are_replaced(monkeypatch):
    start, begun = GuardedPool._start, []

    def stillborn(self):
        worker = start(self)
        begun.append(worker)
        if len(begun) in (1, 2, 3, 4, 6, 7):
            worker.process.kill()
        return worker

    monkeypatch.setattr(GuardedPool, "_start", stillborn)
    tasks = [f"{OS}._exit(3)", "b'one'"]
    found = outcomes(tasks, workers=1)
    assert [found[task].reason for task in tasks] == ["crashed its worker (exit code 3)", ""]
    assert len(begun) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limit")
def test_the_kernel_ends_what_the_pool_does_not(monkeypatch):
    monkeypatch.setattr(GuardedPool, "_too_late", lambda self, worker: None)
    monkeypatch.setattr("ln3d.data.workers.wait", lambda pipes, timeout: time.sleep(0.05))
    hang = "[0 for _ in iter(int, 1)]"
    assert outcomes([hang], workers=1, seconds=0.01)[hang].reason == "timed out after 0.01 s"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_worker_is_the_first_to_go_when_memory_runs_out_and_leaves_no_core():
    expression = "(open('/proc/self/oom_score_adj').read() + open('/proc/self/limits').read()).encode()"
    lines = outcomes([expression], workers=1)[expression].result.decode().splitlines()
    assert lines[0] == "1000"
    (core,) = (line.split()[4] for line in lines if line.startswith("Max core file size"))
    assert core == "0"


def test_a_task_that_hangs_is_ended():
    hang = "[0 for _ in iter(int, 1)]"
    found = outcomes([hang, "b'after'"], workers=1, seconds=0.5)
    assert found[hang].reason == "timed out after 0.5 s"
    assert found["b'after'"].result == b"after"


def test_workers_have_one_thread_each_and_no_torch(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the tests' own is 1
    expression = "str((sorted(__import__('sys').modules), __import__('os').environ['OMP_NUM_THREADS'])).encode()"
    text = outcomes([expression], workers=1)[expression].result.decode()
    assert "'torch'" not in text
    assert text.endswith("'1')")


def test_what_draws_an_object_needs_no_torch():
    code = "import sys, ln3d.data.drawing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_workers_print_stays_out_of_stdout(capfd):
    outcomes(["print('noise', flush=True) or b''"], workers=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "noise" in err


def test_workers_that_cannot_start_are_an_error():
    with pytest.raises(LN3DError, match="do not start"):
        pool = GuardedPool(_Unloadable(), 1, 5, 10**9)
        with pool:
            list(pool.run(["x"]))


class _Unloadable:
    """Something that this process can send and no other can receive."""

    def __reduce__(self):
        return (__import__, ("a_module_that_is_nowhere",))

    def __call__(self, task):
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_that_gets_no_core_is_given_time(monkeypatch):
    monkeypatch.setattr("ln3d.data.workers.processor_use", lambda process: (0.0, True))
    slow = "__import__('time').sleep(0.4) or b'done'"
    with GuardedPool(eval, 1, 0.1, 10**9) as pool:
        assert [outcome.result for outcome in pool.run([slow])] == [b"done"]


def test_a_process_that_sleeps_is_not_given_time():
    found = outcomes(["__import__('time').sleep(60)"], workers=1, seconds=0.3)
    assert [outcome.reason for outcome in found.values()] == ["timed out after 0.3 s"]
