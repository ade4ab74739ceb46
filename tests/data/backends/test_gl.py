import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.backends import gl, gl_device
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.readers.scene import Part, Scene, normalised
from ln3d.data.shards import ShardSet
from ln3d.data.views import Views, draw
from ln3d.errors import LN3DError, RecipeError
from ln3d.geometry.cameras import camera_set, intrinsics, look_at
from ln3d.stages import render_dataset
from ln3d.talk import Talk

SIZE = 48
LAYOUTS = ("sphere", "upper", "orbit")
WHITE = np.ones(4, np.float32)
K = intrinsics(36.0).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[gl_device.Device]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESA_SHADER_CACHE_DISABLE", "true")
        patch.delenv(gl_device.DEVICE, raising=False)
        try:
            gl.check()
        except LN3DError as error:
            pytest.skip(error.message)
        yield gl_device.device()


def cameras(layout: str = "sphere", views: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return camera_set(CameraConfig(views=views, layout=layout))


def part_of(mesh: trimesh.Trimesh, **changes: object) -> Part:
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    return replace(Part(vertices, faces, None, None, WHITE, None), **changes)


def square(texture: np.ndarray, repeats: float = 1.0, **changes: object) -> Part:
    """Return a square in the plane z = 0, its texture upright seen from +z."""
    corners = np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    vertices = np.column_stack([0.6 * corners, np.zeros(4)]).astype(np.float32)
    uv = (repeats * (corners + 1) / 2 - 1.5 * (repeats > 1)).astype(np.float32)
    return Part(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv, None, WHITE, texture, **changes)


def noise(height: int, width: int, alpha: bool = False) -> np.ndarray:
    """Return a texture of soft spots."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    tau, texture = 2 * np.pi, np.full((height, width, 4), 255, np.uint8)
    for channel, (across, down) in enumerate(((1, 2), (3, 1), (2, 2))):
        texture[..., channel] = 127 + 120 * np.sin(tau * across * columns) * np.cos(tau * down * rows)
    if alpha:
        texture[..., 3] = 127.5 + 127.5 * np.sin(3 * tau * columns) * np.sin(3 * tau * rows)
    return texture


def painted_sphere() -> Scene:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.9)
    colours = np.column_stack([mesh.vertices / 1.8 + 0.5, np.ones(len(mesh.vertices))]).astype(np.float32)
    return Scene([part_of(mesh, colours=colours, base_colour=np.float32([0.9, 0.8, 1, 1]))])


def box_with_holes() -> Scene:
    """Return a box of six textured sides with holes, through which a ball is seen."""
    side = square(noise(48, 64, alpha=True), 2.0, cutout=True)
    turns = [np.eye(4)] + [
        trimesh.transformations.rotation_matrix(angle, axis)
        for angle, axis in ((np.pi / 2, (0, 1, 0)), (np.pi, (0, 1, 0)), (-np.pi / 2, (0, 1, 0)),
                            (np.pi / 2, (1, 0, 0)), (-np.pi / 2, (1, 0, 0)))
    ]  # fmt: skip
    outwards = side.vertices + np.float32([0, 0, 0.6])
    sides = [replace(side, vertices=(outwards @ turn[:3, :3].T).astype(np.float32)) for turn in turns]
    ball = part_of(trimesh.creation.icosphere(subdivisions=2, radius=0.4), base_colour=np.float32([0.9, 0.2, 0.1, 1]))
    return normalised(Scene([*sides, ball]))


def textured_ground() -> Scene:
    """Return two squares, one of them striped far more finely than the samples, their alpha meaning nothing."""
    stripes = np.full((512, 512, 4), 255, np.uint8)
    stripes[:, ::2, :3] = (200, 40, 0)
    stripes[..., 3] = 20
    level = replace(square(stripes, 3.0))
    level.vertices = level.vertices[:, [0, 2, 1]] * np.float32([1, 1, -1])
    return normalised(Scene([level, square(noise(60, 100), 1.0)]))


def on_white(views: Views) -> np.ndarray:
    colour = views.colour.astype(np.float64)
    return colour[..., :3] * colour[..., 3:] / 255 + 255 - colour[..., 3:]


def assert_alike(found: Views, expected: Views, psnr: float = 45.0, stray: float = 0.004) -> None:
    """Hold pictures to a share of 0.995 of common coverage and, but for a share of pixels, to depths and normals."""
    here, there = found.colour[..., 3] >= 128, expected.colour[..., 3] >= 128
    assert (here & there).sum() > 0.995 * (here | there).sum() > 0
    error = np.mean((on_white(found) - on_white(expected)) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > psnr
    here, there = found.depth > 0, expected.depth > 0
    both = here & there
    assert both.sum() > 0.995 * (here | there).sum() > 0
    assert (np.abs(found.depth - expected.depth)[both] > 2e-5).mean() < stray
    assert (np.abs(found.normal - expected.normal)[both].max(-1) > 1e-5).mean() < stray
    assert (found.normal[~here] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.normal[here], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("make", [painted_sphere, box_with_holes, textured_ground])
def test_it_draws_what_the_ray_caster_draws(make, layout):
    scene = make()
    assert_alike(gl.draw(scene, *cameras(layout), SIZE), draw(scene, *cameras(layout), SIZE))


@pytest.mark.parametrize(("supersampling", "lighting"), [(1, "rig"), (3, "albedo"), (4, "rig")])
def test_it_does_so_with_any_samples_and_light(supersampling, lighting):
    scene, order = box_with_holes(), (*cameras(), SIZE, supersampling, lighting)
    # One sample in a pixel is all or nothing, so that a hair's breadth at an outline is a whole pixel.
    assert_alike(gl.draw(scene, *order), draw(scene, *order), psnr=35.0 if supersampling == 1 else 45.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_objects_of_a_collection_look_alike(layout):
    entries = list_objects(DatasetConfig(collections=(CollectionConfig(kind="parametric", limit=10),)))
    for entry in entries:
        scene = normalised(load_object(entry, LimitsConfig()))
        found = gl.draw(scene, *cameras(layout, 4), SIZE)
        assert_alike(found, draw(scene, *cameras(layout, 4), SIZE), psnr=42.0)


def test_a_sphere_is_where_the_formula_says():
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=0.9)
    pose = look_at(np.array([0, 0, 3.2])).astype(np.float32)
    views = gl.draw(Scene([part_of(mesh)]), pose[None], K[None], SIZE, supersampling=4)
    radius = 0.9 / np.sqrt(3.2**2 - 0.9**2) * K[0, 0] * SIZE  # of the sphere's outline, in pixels
    assert views.colour[0, ..., 3].sum() / 255 == pytest.approx(np.pi * radius**2, rel=5e-3)
    assert views.depth[0, SIZE // 2, SIZE // 2] == pytest.approx(2.3, abs=2e-3)


def test_a_texel_is_where_it_should_be():
    texture = np.full((2, 2, 4), 255, np.uint8)
    texture[..., :3] = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]]
    pose = look_at(np.array([0, 0, 3.2])).astype(np.float32)
    colour = gl.draw(Scene([square(texture)]), pose[None], K[None], 64, lighting="albedo").colour[0, ..., :3]
    reach = round(0.3 / 3.2 * K[0, 0] * 64)  # from the middle to the centres of the texels, in pixels
    for row in (0, 1):
        for column in (0, 1):
            place = 32 + (2 * row - 1) * reach, 32 + (2 * column - 1) * reach
            np.testing.assert_allclose(colour[place], texture[row, column, :3], atol=24)


def test_again_it_is_the_same():
    scene = box_with_holes()
    first, again = (gl.draw(scene, *cameras(), SIZE) for _ in range(2))
    for one, other in zip(vars(first).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_in_pieces_it_is_the_same(monkeypatch):
    scene = box_with_holes()
    whole = gl.draw(scene, *cameras(), SIZE)
    monkeypatch.setattr(gl, "_LARGEST_SIDE", 40)  # of 96 samples, so that the last piece reaches beyond the picture
    assert_alike(gl.draw(scene, *cameras(), SIZE), whole, psnr=50.0)


def test_textures_that_are_too_large_get_coarser(device, monkeypatch):
    scene = textured_ground()
    assert len(gl._fitting(scene, 1e-3, 10**9).atlas.table()[0]) > 50_000
    assert len(gl._fitting(scene, 1e-3, 50_000).atlas.table()[0]) <= 50_000
    usual = gl.draw(scene, *cameras(), 512, 1)
    monkeypatch.setattr(gl, "device", lambda: replace(device, most=32))
    coarse = gl.draw(scene, *cameras(), 512, 1)
    assert not np.array_equal(usual.colour, coarse.colour)
    assert np.abs(on_white(usual).mean((0, 1, 2)) - on_white(coarse).mean((0, 1, 2))).max() < 1


def test_nothing_stays_on_the_device(device, monkeypatch):
    moderngl, made = pytest.importorskip("moderngl"), []

    def kept(make):
        def recorded(*arguments, **options):
            made.append(make(*arguments, **options))
            return made[-1]

        return recorded

    for kind in ("buffer", "texture", "renderbuffer", "depth_renderbuffer", "framebuffer", "vertex_array"):
        monkeypatch.setattr(moderngl.Context, kind, kept(getattr(moderngl.Context, kind)))
    gl.draw(box_with_holes(), *cameras(), SIZE)
    with pytest.raises(ValueError, match="no camera"):
        gl.draw(box_with_holes(), _Unreadable(cameras()[0]), cameras()[1], SIZE)
    assert len(made) == 2 * 10
    assert all(isinstance(thing.mglo, moderngl.InvalidObject) for thing in made)
    assert device.context.error == "GL_NO_ERROR"


class _Unreadable(np.ndarray):
    """Poses that fail when the first one is asked for by its number."""

    def __new__(cls, poses):
        return poses.view(cls)

    def __getitem__(self, place):
        if isinstance(place, int):
            raise ValueError("no camera")
        return super().__getitem__(place)


def test_nothing_is_seen_of_nothing():
    poses, lenses = cameras()
    nothing = Part(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), None, None, WHITE, None)
    behind = painted_sphere()
    behind.parts[0].vertices = behind.parts[0].vertices + 20 * poses[0][:3, 3]
    for scene in (Scene([]), Scene([nothing]), behind):
        views = gl.draw(scene, poses[:1], lenses[:1], 16)
        assert not (views.colour.any() or views.depth.any() or views.normal.any())


def test_a_camera_inside_the_object_sees_it_all_around():
    pose = look_at(np.array([0, 0, 0.5])).astype(np.float32)
    order = painted_sphere(), pose[None], K[None], SIZE
    assert (gl.draw(*order).depth > 0).all()
    assert_alike(gl.draw(*order), draw(*order))


def test_workers_draw_it_and_stay_within_their_memory(tmp_path):
    dataset = DatasetConfig(
        collections=(CollectionConfig(kind="parametric", limit=3),),
        cameras=CameraConfig(views=3),
        resolution=24,
        renderer="gl",
        limits=LimitsConfig(memory_bytes=2_000_000_000),
    )
    workspace = Workspace(tmp_path)
    result = render_dataset.run(Recipe(name="tiny", dataset=dataset), workspace, Talk(0), workers=1)
    assert (result["objects"], result["rejected"]) == (3, 0)
    shards = ShardSet(workspace.open("shards"))
    for record, entry in zip(shards.objects, list_objects(dataset), strict=True):
        here = gl.draw(normalised(load_object(entry, dataset.limits)), *camera_set(dataset.cameras), 24)
        for view in range(3):
            np.testing.assert_array_equal(shards.colour(record.index, view), here.colour[view])


@pytest.mark.parametrize(
    ("number", "words", "remedy"),
    [("99", "requested device index 99", "LN3D_GL_DEVICE"), ("first", "is not the number", "unset it")],
)
def test_a_device_that_is_not_there_is_one_line(monkeypatch, number, words, remedy):
    monkeypatch.setenv(gl_device.DEVICE, number)
    with pytest.raises(RecipeError, match=words) as caught:
        gl.check()
    assert remedy in caught.value.hint


def test_a_library_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(gl_device, "_LIBRARY", "libEGL-which-is-missing.so.1")
    monkeypatch.delitem(os.environ, "GLCONTEXT_LINUX_LIBEGL", raising=False)
    with pytest.raises(RecipeError, match="which-is-missing.so.1 not loaded") as caught:
        gl.check()
    assert "apt-get install libegl1 libgl1-mesa-dri" in caught.value.hint
