"""The process, with the real script and a `bpy` that draws nothing; the pictures, where Blender is installed."""

import json
import os
import resource
import signal
import sys
import time
from importlib.util import find_spec
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
from ln3d.geometry.cameras import camera_set, intrinsics, look_at

SIZE = 32
WHITE = (1, 1, 1)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal to children")
real = pytest.mark.skipif(find_spec("bpy") is None, reason="needs Blender: pip install 'ln3d[blender]'")

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


def painted(mesh, colour=WHITE, **rest):
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    fields = {"uv": None, "colours": None, "texture": None} | rest
    return Part(vertices, faces, base_colour=np.float32([*colour, 1]), **fields)


def sphere(colour=WHITE):
    return Scene([painted(trimesh.creation.icosphere(subdivisions=5, radius=0.9), colour)])


def cameras(views=4):
    return camera_set(CameraConfig(views=views))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Begin and end without a process, in a temporary folder of one's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(blender_process.EXECUTABLE, raising=False)
    monkeypatch.delenv(blender.DEVICE, raising=False)
    yield
    blender.stop()


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


def draw_two():
    return blender.draw(Scene([painted(trimesh.creation.box())]), *cameras(2), 8, lighting="albedo")


def test_pictures_are_not_premultiplied_and_one_process_draws_them_all(stand_in):
    for _ in range(2):
        views = draw_two()
        assert views.colour.shape == (2, 8, 8, 4)
        assert (views.colour == [128, 51, 0, 128]).all()
    assert len({job["pid"] for job in jobs(stand_in)}) == 1


def test_depth_and_normal_are_the_ray_casters(stand_in):
    views, exact = draw_two(), cast(Scene([painted(trimesh.creation.box())]), *cameras(2), 8)
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


def on_white(views):
    rgba = views.colour.astype(float) / 255
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def psnr(a, b):
    return -10 * np.log10(np.square(a - b).mean())


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def room():
    """A scene whose colours tell where they are, with a texture that repeats and holes to look through."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3).apply_translation([0.2, 0.1, -0.2])
    places = np.concatenate([np.asarray(ball.vertices) / 2 + 0.5, np.ones((len(ball.vertices), 1))], 1)
    checks = np.zeros((4, 4, 4), np.uint8)
    checks[:2, :2], checks[2:, 2:] = (200, 40, 90, 255), (20, 140, 60, 255)
    square = trimesh.Trimesh(
        [[-0.6, -0.5, 0.3], [0.6, -0.5, 0.3], [0.6, 0.5, 0.3], [-0.6, 0.5, 0.3]], [[0, 1, 2], [0, 2, 3]]
    )
    floor = trimesh.creation.box([1.2, 0.1, 1.2]).apply_translation([0, -0.55, 0])
    uv = np.float32([[0, 0], [3, 0], [3, 2], [0, 2]])
    return Scene(
        [
            painted(ball, colours=places.astype(np.float32)),
            painted(square, (1, 0.8, 1), uv=uv, texture=checks, cutout=True),
            painted(floor, (0.2, 0.4, 0.6)),
        ]
    )


def around():
    poses = look_at(np.array([[1, 0.7, 3], [-1.5, 1, 2.5], [1.5, -1, -2.5]])).astype(np.float32)
    return poses, np.stack([intrinsics(36.0).astype(np.float32)] * 3)


@real
def test_albedo_agrees_with_the_ray_caster():
    poses, matrices = around()
    views = blender.draw(room(), poses, matrices, 64, 8, "albedo")
    other = cast(room(), poses, matrices, 64, 8, "albedo")
    assert psnr(on_white(views), on_white(other)) > 40
    coverage = (views.colour[..., 3] / 255, other.colour[..., 3] / 255)
    assert np.abs(coverage[0] - coverage[1]).mean() < 3e-3
    assert iou(*(c >= 0.5 for c in coverage)) > 0.99
    np.testing.assert_array_equal(views.depth, other.depth)
    np.testing.assert_array_equal(views.normal, other.normal)


@real
def test_albedo_is_the_exact_colour_and_a_second_time_the_same():
    views = [blender.draw(sphere((0.2, 0.4, 0.6)), *cameras(), SIZE, lighting="albedo") for _ in range(2)]
    covered = views[0].colour[..., 3] > 0
    assert (views[0].colour[covered][:, :3] == [51, 102, 153]).all()
    assert (views[0].colour[~covered] == 0).all()
    np.testing.assert_array_equal(views[0].colour, views[1].colour)


@real
def test_the_principal_point_and_the_focal_lengths_are_the_cameras():
    pose = look_at(np.array([1.0, 0.7, 3.0])).astype(np.float32)[None]
    for fx, fy, cx, cy in ((1.5, 1.5, 0.4, 0.55), (1.2, 1.6, 0.5, 0.45), (1.6, 1.2, 0.55, 0.6)):
        matrix = np.float32([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]])
        views, other = (draw(room(), pose, matrix, 64, 8, "albedo") for draw in (blender.draw, cast))
        assert psnr(on_white(views), on_white(other)) > 38


@real
def test_the_rig_is_as_bright_as_the_ray_casters_and_clips_nothing():
    views, other = (draw(sphere(), *cameras(6), SIZE) for draw in (blender.draw, cast))
    full = (views.colour[..., 3] == 255) & (other.colour[..., 3] == 255)
    mine, theirs = views.colour[full][:, :3].astype(float), other.colour[full][:, :3].astype(float)
    assert np.median(mine) == pytest.approx(np.median(theirs), rel=0.05)
    assert np.sqrt(np.square(mine - theirs).mean()) < 0.05 * 255
    assert mine.max() < 250
    assert mine.min() > 90


@real
def test_the_rig_puts_no_seam_around_holes():
    square = Scene([room().parts[1]])
    poses, matrices = around()
    views, other = (draw(square, poses[:2], matrices[:2], 64, 4) for draw in (blender.draw, cast))
    solid = (views.colour[..., 3] > 200) & (other.colour[..., 3] > 200)
    off = views.colour[solid][:, :3].astype(float) - other.colour[solid][:, :3]
    assert np.abs(off).max() < 25
    assert np.abs(off).mean() < 10


@real
def test_the_rig_draws_the_same_bytes_in_another_process():
    views = []
    for _ in range(2):
        views.append(blender.draw(room(), *cameras(2), SIZE))
        blender.stop()
    np.testing.assert_array_equal(views[0].colour, views[1].colour)


@real
def test_white_walls_are_not_clipped():
    # Three walls of a corner that opens towards the strongest lamp: light goes back and forth between them.
    box = trimesh.creation.box([1, 1, 1])
    towards = np.array([0.5, 0.75, 0.65])
    walls = trimesh.Trimesh(box.vertices, box.faces[(box.face_normals < -0.5).any(1)])
    pose = look_at(3.2 * towards / np.linalg.norm(towards)).astype(np.float32)[None]
    views = blender.draw(Scene([painted(walls)]), pose, intrinsics(36.0).astype(np.float32)[None], SIZE)
    inside = views.colour[views.colour[..., 3] == 255]
    assert len(inside) > 100
    assert inside[:, :3].max() < 255


@real
def test_faces_that_lie_twice_cast_no_shadow_on_themselves():
    def top(copies):
        plate = trimesh.creation.box([1.2, 0.1, 1.2])
        part = painted(plate, (0.5, 0.5, 0.5))
        part.faces = np.concatenate([part.faces, part.faces[:, ::-1]][:copies])
        views = blender.draw(Scene([part]), *camera_set(CameraConfig(views=1, layout="orbit", elevation=60.0)), SIZE)
        return views.colour[(views.normal[..., 1] > 0.9) & (views.colour[..., 3] == 255)][:, :3]

    once, twice = top(1), top(2)
    assert once.mean() > 100
    assert np.abs(once.mean(0) - twice.mean(0)).max() < 2
    assert twice.std() < once.std() + 2


@real
def test_what_stands_in_the_light_casts_a_shadow():
    floor = trimesh.creation.box([1.4, 0.05, 1.4]).apply_translation([0, -0.4, 0])
    wall = trimesh.creation.box([0.9, 0.7, 0.05]).apply_translation([0, 0, 0.1])
    pose, matrix = camera_set(CameraConfig(views=1, layout="orbit", elevation=70.0))

    def darkest_to_brightest(draw):
        views = draw(Scene([painted(floor), painted(wall)]), pose, matrix, SIZE)
        ground = (views.normal[..., 1] > 0.9) & (views.colour[..., 3] == 255) & (views.depth > 3.2)
        low, high = np.percentile(views.colour[ground][:, 0], [10, 90])
        return low / high

    assert darkest_to_brightest(cast) > 0.93
    assert darkest_to_brightest(blender.draw) < 0.75
