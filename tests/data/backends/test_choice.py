import subprocess
import sys
from inspect import signature
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig, Renderer
from ln3d.data import drawing, views
from ln3d.data.backends.choice import check_renderer, painter
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object, draw_on_white
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import camera_set
from ln3d.stages import real_pictures, render_dataset, shard_mark
from ln3d.talk import Talk


def recipe(renderer):
    collections = (CollectionConfig(kind="parametric", limit=2),)
    return Recipe(name="tiny", dataset=DatasetConfig(collections=collections, renderer=renderer))


def order(renderer):
    camera = np.eye(4, dtype=np.float32)[None]
    return DrawingOrder(camera, camera[:, :3, :3], 8, 1, "rig", 1e-4, LimitsConfig(), renderer=renderer)


@pytest.mark.parametrize("name", get_args(Renderer))
def test_every_renderer_has_a_function_of_the_same_form(name):
    assert list(signature(painter(name)).parameters.items()) == list(signature(views.draw).parameters.items())


def test_the_ray_caster_is_the_default_and_always_there():
    assert painter(DatasetConfig().renderer) is views.draw
    assert check_renderer("embree") == {}


def test_a_renderer_says_which_version_of_what_draws(monkeypatch):
    monkeypatch.setattr("ln3d.data.backends.blender.check", lambda: "5.0.1")
    monkeypatch.setattr("ln3d.data.backends.gl.check", lambda: "5.12.0")
    assert {name: check_renderer(name) for name in ("blender", "gl")} == {
        "blender": {"Blender": "5.0.1"},
        "gl": {"moderngl": "5.12.0"},
    }


@pytest.mark.parametrize("make", [draw_object, draw_on_white])
def test_an_object_is_drawn_by_the_renderer_of_the_order(monkeypatch, make):
    asked = []

    def chosen(name):
        asked.append(name)
        raise RecipeError("enough")

    monkeypatch.setattr(drawing, "painter", chosen)
    task = ObjectTask("00000", list_objects(recipe("gl").dataset)[0], "train")
    for name in get_args(Renderer):
        with pytest.raises(RecipeError, match="enough"):
            make(order(name), task)
    assert asked == list(get_args(Renderer))


def test_choosing_loads_nothing():
    code = (
        "import sys, ln3d.data.drawing, ln3d.data.backends.gl; from ln3d.data.backends.choice import painter;"
        "painter('gl'); sys.exit(any(name in sys.modules for name in ('moderngl', 'bpy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_extra_is_one_line_before_anything_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    workspace = Workspace(tmp_path / "run")
    with pytest.raises(RecipeError, match="dataset.renderer: gl needs the package moderngl") as caught:
        render_dataset.run(recipe("gl"), workspace, Talk(0), workers=1)
    assert "pip install 'ln3d[gl]'" in caught.value.hint
    assert not workspace.partial("shards").exists()


def test_evaluation_asks_for_it_before_it_draws(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    entries = list_objects(recipe("gl").dataset)
    with pytest.raises(RecipeError, match="needs the package moderngl"):
        list(real_pictures.draw_each(order("gl"), entries, Talk(0), "draw"))


def test_the_plan_says_which_and_needs_none(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    for name in get_args(Renderer):
        plan = render_dataset.run(recipe(name), Workspace(tmp_path), Talk(0), dry_run=True)
        assert plan["renderer"] == name


def test_shards_and_pictures_from_before_the_choice_are_still_those_of_the_recipe():
    marks = {name: shard_mark.shards_mark(recipe(name), []) for name in get_args(Renderer)}
    assert len(set(marks.values())) == 3
    assert "renderer" not in shard_mark._how(DatasetConfig())
    cameras = [order("embree").camera_to_world.tolist(), order("embree").intrinsics.tolist(), 8]
    assert real_pictures.drawing_key(order("embree"), "x") == fingerprint("drawn", "x", cameras, 1, "rig")
    assert len({real_pictures.drawing_key(order(name), "x") for name in get_args(Renderer)}) == 3


def test_the_recipe_chooses_for_shards_and_for_evaluation():
    for name in get_args(Renderer):
        assert render_dataset._order(recipe(name), []).renderer == name
        places = render_dataset._order(recipe(name), [])
        cameras = SimpleNamespace(camera_to_world=places.camera_to_world, intrinsics=places.intrinsics, size=8)
        reference = SimpleNamespace(dataset=recipe(name).dataset)
        assert real_pictures.drawing_order(reference, cameras, "rig").renderer == name


def test_pictures_from_elsewhere_need_no_renderer(monkeypatch, tmp_path):
    def begun(*_):
        raise KeyError("begun")

    monkeypatch.setitem(sys.modules, "moderngl", None)
    monkeypatch.setattr(render_dataset, "is_rendered", lambda entry: True)
    monkeypatch.setattr(render_dataset, "needs_renderer", lambda entry: False)
    monkeypatch.setattr(render_dataset, "places_of", lambda cameras: camera_set(cameras))
    monkeypatch.setattr(render_dataset, "UnfinishedShards", begun)
    with pytest.raises(KeyError, match="begun"):
        render_dataset.run(recipe("gl"), Workspace(tmp_path), Talk(0))
