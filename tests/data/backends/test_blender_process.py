"""The process, with the real script and a `bpy` that draws nothing."""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ln3d.config.render import CameraConfig
from ln3d.data.backends import blender, blender_process
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import draw as cast
from ln3d.data.workers import GuardedPool
from ln3d.errors import MeshError, RecipeError
from ln3d.geometry.cameras import camera_set

pytestmark = pytest.mark.usefixtures("fresh_blender")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal to children")

STAND_IN = """
import json, os, resource, signal, sys, time
from pathlib import Path
from unittest.mock import MagicMock

here = Path(__file__).parent
print("Blender says hello", flush=True)
if (here / "broken").exists():
    raise ImportError((here / "broken").read_text())
if (here / "stillborn").exists() and (left := int((here / "stillborn").read_text())):
    (here / "stillborn").write_text(str(left - 1))
    os.kill(os.getpid(), signal.SIGKILL)
sys.modules["mathutils"] = MagicMock()
app, ops, context, data = MagicMock(), MagicMock(), MagicMock(), MagicMock()
app.version_string = "5.0.1"

def begin(**_):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with (here / "jobs").open("a") as file:
        used, soft = usage.ru_utime + usage.ru_stime, resource.getrlimit(resource.RLIMIT_CPU)[0]
        print(json.dumps({"pid": os.getpid(), "used": used, "soft": soft}), file=file)
    order, _, count = (here / "order").read_text().partition(" ")
    if not order:
        return
    (here / "order").write_text("" if not count else f"{order} {int(count) - 1}" if int(count) > 1 else "")
    print("first words", "last words", sep="\\n", file=sys.stderr, flush=True)
    if order == "raise":
        raise ValueError("the mesh is odd")
    if order == "hang":
        time.sleep(600)
    os.kill(os.getpid(), getattr(signal, order))

def pixels(array):
    array.reshape(-1, 4)[:] = 0.25, 0.1, 0, 0.5

ops.wm.read_factory_settings.side_effect = begin
data.images.load.return_value.pixels.foreach_get.side_effect = pixels
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a `bpy` in the way that obeys the file `order` and tells of its life in `jobs`; return their folder."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "bpy.py").write_text(STAND_IN)
    (folder / "order").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(folder)
    return folder


def jobs(folder):
    return [json.loads(line) for line in (folder / "jobs").read_text().splitlines()]


def box():
    mesh = trimesh.creation.box()
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    return Scene([Part(vertices, faces, None, None, np.ones(4, np.float32), None)]), *camera_set(CameraConfig(views=2))


def draw_two():
    return blender.draw(*box(), 8, lighting="albedo")


def test_pictures_are_not_premultiplied_and_one_process_draws_them_all(stand_in):
    for _ in range(2):
        views = draw_two()
        assert views.colour.shape == (2, 8, 8, 4)
        assert (views.colour == [128, 51, 0, 128]).all()
    assert len({job["pid"] for job in jobs(stand_in)}) == 1


def test_depth_and_normal_are_the_ray_casters(stand_in):
    views, exact = draw_two(), cast(*box(), 8)
    assert exact.depth.any()
    np.testing.assert_array_equal(views.depth, exact.depth)
    np.testing.assert_array_equal(views.normal, exact.normal)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("SIGSEGV", "Blender ended (SIGSEGV): last words"),
        ("SIGXCPU", "Blender ended (SIGXCPU): last words"),
        ("raise", "Blender: ValueError: the mesh is odd"),
    ],
)
def test_a_failure_is_one_line_and_the_next_object_gets_a_new_process(stand_in, order, reason):
    draw_two()
    (stand_in / "order").write_text(order)
    with pytest.raises(MeshError) as caught:
        draw_two()
    assert caught.value.message == reason
    assert (draw_two().colour == [128, 51, 0, 128]).all()
    first, failed, last = (job["pid"] for job in jobs(stand_in))
    assert first == failed != last


def test_a_job_whose_process_is_killed_is_begun_again(stand_in):
    (stand_in / "order").write_text("SIGKILL 2")
    assert (draw_two().colour == [128, 51, 0, 128]).all()
    assert len({job["pid"] for job in jobs(stand_in)}) == 3
    (stand_in / "order").write_text("SIGKILL 9")
    with pytest.raises(MeshError, match=r"Blender ended \(SIGKILL\)"):
        draw_two()
    assert len(jobs(stand_in)) == 6


def test_a_process_that_was_killed_between_objects_is_replaced(stand_in):
    draw_two()
    os.kill(jobs(stand_in)[0]["pid"], signal.SIGKILL)
    assert (draw_two().colour == [128, 51, 0, 128]).all()


@LINUX
def test_it_dies_with_its_worker_and_what_that_leaves_is_removed(stand_in, tmp_path, monkeypatch):
    (stand_in / "order").write_text("hang")
    (stand_in / "drawing.py").write_text(
        "import numpy as np\nfrom ln3d.config.render import CameraConfig\nfrom ln3d.data.backends import blender\n"
        "from ln3d.data.readers.scene import Part, Scene\nfrom ln3d.geometry.cameras import camera_set\n"
        "def make(size):\n"
        "    corners, face, white = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.ones(4, np.float32)\n"
        "    part = Part(corners, face, None, None, white, None)\n"
        "    return blender.draw(Scene([part]), *camera_set(CameraConfig(views=1)), size).colour.tobytes()\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    make = __import__("drawing").make
    with GuardedPool(make, 1, 5.0, 8_000_000_000) as pool:
        (outcome,) = pool.run([8])
    assert outcome.reason == "timed out after 5 s"
    (child,) = jobs(stand_in)
    deadline = time.monotonic() + 20
    while alive(child["pid"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (left,) = folders(tmp_path)
    draw_two()
    (used,) = folders(tmp_path)
    assert used != left
    other = blender_process.BlenderProcess()  # what another process uses stays
    assert len(folders(tmp_path)) == 2 and used in folders(tmp_path)
    other.close()
    blender.stop()
    assert not folders(tmp_path)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def folders(place):
    return [path for path in place.glob("ln3d-blender-*") if path.is_dir()]


@LINUX
def test_every_object_has_the_processor_time_that_its_worker_has_left(stand_in):
    before = resource.getrlimit(resource.RLIMIT_CPU)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    try:
        for left in (1000, 5000):
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + left, before[1]))
            draw_two()
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
    first, second = jobs(stand_in)
    assert first["pid"] == second["pid"]
    assert first["soft"] - first["used"] == pytest.approx(1000, abs=60)
    assert second["soft"] - second["used"] == pytest.approx(5000, abs=60)


def test_a_process_that_is_killed_before_it_is_ready_is_begun_again(stand_in, tmp_path):
    (stand_in / "stillborn").write_text("2")
    assert (draw_two().colour == [128, 51, 0, 128]).all()
    blender.stop()
    (stand_in / "stillborn").write_text("9")
    with pytest.raises(RecipeError, match="does not start: Blender says hello") as caught:
        draw_two()
    assert (stand_in / "stillborn").read_text() == "6" and "run the same command again" in caught.value.hint
    assert not folders(tmp_path)


def test_it_says_which_version_draws_or_that_there_is_none(stand_in, tmp_path, monkeypatch):
    assert blender.check() == "5.0.1"
    assert not folders(tmp_path)
    monkeypatch.setenv(blender_process.EXECUTABLE, "/nowhere/blender")
    with pytest.raises(RecipeError, match="/nowhere/blender"):
        blender.check()
    monkeypatch.delenv(blender_process.EXECUTABLE)
    monkeypatch.setattr(blender_process, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        blender.check()
    assert "pip install 'ln3d[blender]'" in caught.value.hint


BLENDER = f'#!/bin/sh\nwhile [ "$1" != --python ]; do shift; done\nexec {sys.executable} "$2" "$3" "$4"\n'
PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
LIBRARY = "libXrender.so.1: cannot open shared object file"


@LINUX
@pytest.mark.parametrize(
    ("name", "program", "problem", "reason", "remedy"),
    [
        (None, None, LIBRARY, f"ImportError: {LIBRARY}", "apt-get install libxrender1"),
        (None, None, "no numpy", "ImportError: no numpy", f"see what this says: {sys.executable} -c 'import bpy'"),
        ("blender-4.2", BLENDER, LIBRARY, f"ImportError: {LIBRARY}", "apt-get install libxrender1"),
        ("blender-4.2", "#!/bin/sh\necho a fault >&2\n", None, "a fault", "see what this says: {} --background"),
        ("python-of-mine", PYTHON, LIBRARY, f"ImportError: {LIBRARY}", "apt-get install libxrender1"),
        ("python-of-mine", PYTHON, "no bpy", "ImportError: no bpy", "{}, which is run as a Python. If it is one, "),
        ("wrapper", "#!/bin/sh\necho no display >&2\n", None, "no display", "give it a name that begins with blender"),
        ("wrapper", "this is no program", None, ": Exec format error", "{}, which is run as a Python. If it is one, "),
    ],
)
def test_the_remedy_is_for_the_program_that_was_started(
    stand_in, tmp_path, monkeypatch, name, program, problem, reason, remedy
):
    if name is not None:
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv(blender_process.EXECUTABLE, str(tmp_path / name))
    if problem is not None:
        (stand_in / "broken").write_text(problem)
    with pytest.raises(RecipeError) as caught:
        blender.check()
    assert caught.value.message.startswith("Blender does not start: ") and caught.value.message.endswith(reason)
    assert remedy.format(tmp_path / str(name)) in caught.value.hint
    assert not folders(tmp_path)


@LINUX
def test_no_other_process_removes_a_folder_that_is_just_begun(tmp_path, monkeypatch):
    import fcntl

    flock, others = fcntl.flock, []

    def overtaken(handle, how):
        if not others:
            others.append(None)  # only the first lock; what the other takes for left over it removes
            others.append(blender_process._scratch())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    folder, lock = blender_process._scratch()
    late, last = blender_process._scratch()
    assert {*folders(tmp_path)} == {folder, others[1][0], late}
    for held in (lock, others[1][1], last):
        assert Path(held.lock_file).exists()
        held.release()
    swept, lock = blender_process._scratch()
    assert folders(tmp_path) == [swept]
    lock.release()


def test_a_blender_of_ones_own_is_given_the_script(stand_in, tmp_path, monkeypatch):
    program = tmp_path / "blender-4.2"
    program.write_text(BLENDER.replace("\n", "\necho Blender 4.2\n", 1))
    program.chmod(0o755)
    for executable in (str(program), sys.executable):
        monkeypatch.setenv(blender_process.EXECUTABLE, executable)
        blender.stop()
        assert (draw_two().colour == [128, 51, 0, 128]).all()
    assert len({job["pid"] for job in jobs(stand_in)}) == 2
