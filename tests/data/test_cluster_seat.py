"""The part that runs on a node, in this process: one guarded process for many tasks, and what is said of the node."""

import os
import sys
import types
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data import cluster_seat
from ln3d.data.cluster_seat import Drawn, Needs, Seat, drawing_versions, needs_of
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object
from ln3d.data.workers import GuardedPool
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import camera_set

ORDER = DrawingOrder(*camera_set(CameraConfig(views=2)), 16, 1, "rig", 1e-4, LimitsConfig())


@pytest.fixture
def ray(monkeypatch):
    fake = types.ModuleType("ray")
    fake.get_runtime_context = lambda: types.SimpleNamespace(get_node_id=lambda: "the-node")
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


def test_one_process_draws_one_task_after_the_other(monkeypatch, tmp_path):
    started, start = [], GuardedPool._start
    monkeypatch.setattr(GuardedPool, "_start", lambda self: started.append(1) or start(self))
    entries = list_objects(DatasetConfig(collections=(CollectionConfig(kind="parametric", limit=2),)))
    tasks = [ObjectTask(f"{n:05d}", entry, "train") for n, entry in enumerate(entries)]
    seat = Seat(ORDER)
    with seat._pool:
        assert seat.draw(tasks[0], str(tmp_path / "not-here")) == Drawn(None, unseen=True)
        found = [seat.draw(task, str(tmp_path)) for task in tasks]
    assert found == [Drawn(draw_object(ORDER, task)) for task in tasks]
    assert len(started) == 1


def test_a_node_says_what_it_is(ray, monkeypatch):
    monkeypatch.delenv("LN3D_GL_DEVICE", raising=False)
    sys.modules["__main__"].__file__ = "ray's own program"
    node = Seat(ORDER).begin({"LN3D_GL_DEVICE": "3"}, Needs("embree"))
    assert (node.id, node.versions, node.problem) == ("the-node", drawing_versions(Needs()), "")
    assert os.environ["LN3D_GL_DEVICE"] == "3" and not hasattr(sys.modules["__main__"], "__file__")
    assert node.versions["numpy"][0].isdigit()


def test_a_node_without_the_renderer_says_so(ray, monkeypatch):
    def check(name):
        raise RecipeError(f"no {name} here", "Install it.")

    monkeypatch.setattr(cluster_seat, "check_renderer", check)
    node = Seat(ORDER).begin({}, Needs("gl"))
    assert (node.problem, node.hint) == ("no gl here", "Install it.")
    assert Seat(ORDER).begin({}, Needs()).problem == ""


def test_versions_are_those_of_what_reads_and_draws_these_objects(monkeypatch):
    def installed(package):
        if package == "OpenEXR":
            raise PackageNotFoundError
        return f"{package} 1"

    monkeypatch.setattr(cluster_seat, "version", installed)
    monkeypatch.setattr(cluster_seat, "check_renderer", lambda name: {"moderngl": "5.12"} if name == "gl" else {})
    plain = drawing_versions(Needs("embree"))
    assert plain == drawing_versions(Needs()) and plain["pillow"] == "pillow 1" and "OpenEXR" not in plain
    assert drawing_versions(Needs("gl", ("OpenEXR",))) == {**plain, "OpenEXR": "none", "moderngl": "5.12"}


def test_what_is_needed_is_what_the_objects_come_as():
    (mesh,) = list_objects(DatasetConfig(collections=(CollectionConfig(kind="parametric", limit=1),)))
    pictures, broken = replace(mesh, load=("gobjaverse", {})), replace(mesh, load=("unreadable", {"reason": "x"}))
    assert needs_of([mesh], "gl") == Needs("gl")
    assert needs_of([mesh, pictures], "gl") == Needs("gl", ("OpenEXR",))
    assert needs_of([pictures, broken], "gl") == Needs(None, ("OpenEXR",))
    assert needs_of([replace(mesh, load=("nerf", {})), broken], "gl") == Needs()


def test_what_is_wrong_with_the_machine_is_no_answer():
    (mesh,) = list_objects(DatasetConfig(collections=(CollectionConfig(kind="parametric", limit=1),)))
    seat = Seat(replace(ORDER, renderer="gl"))
    broken = ObjectTask("00000", replace(mesh, load=("no such kind", {})), "train")
    with seat._pool, pytest.raises(RecipeError, match="unknown collection kind 'no such kind'") as caught:
        seat.draw(broken, "")
    assert caught.value.hint.startswith("Known: parametric")
