"""What each layout says besides pictures: units, axes, lenses, names, splits, and how damage is refused."""

import importlib.util
import json

import numpy as np
import pytest
from layouts import TO_SRN, VIEWS, moved, save, truth_of, write_eg3d, write_gobjaverse, write_nerf, write_srn

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_views
from ln3d.errors import MeshError, RecipeError

LIMITS = LimitsConfig()


@pytest.fixture(scope="module")
def truth():
    return truth_of(side=16)


def listed(kind, root, **options):
    return list_objects(DatasetConfig(collections=(CollectionConfig(kind=kind, path=str(root), **options),)))


def seen_of(kind, root, **options):
    return load_views(listed(kind, root, **options)[0], LIMITS, VIEWS, 16)


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "scale, extra, options",
    [
        (2.5, {"aabb_scale": 2, "scale": 0.4}, {}),  # the box of instant-ngp's unit cube doubled: side 2 / 0.4
        (1.5, {"aabb": [[-1.5, -0.5, -1], [1.5, 0.5, 1]]}, {}),
        (4.0, {"scale": 9}, {"scale": 0.25}),  # the recipe's word is the last
    ],
)
def test_units_of_nerf_scenes(truth, tmp_path, scale, extra, options):
    seen = seen_of("nerf", write_nerf(truth, tmp_path / "a", scale, **extra), **options)
    np.testing.assert_allclose(seen.camera_to_world, truth.camera_to_world, atol=1e-5)


def test_nerf_scenes_that_are_not_in_the_middle(truth, tmp_path):
    folder = write_nerf(truth, tmp_path / "a", 2.0, scale=0.25, offset=[0.75, 0.5, 0.0])
    document = json.loads((folder / "transforms.json").read_text())
    for frame in document["frames"]:  # 0.25 p + offset = 0.5 is the middle of the cube
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, 3] += [-1, 0, 2]
        frame["transform_matrix"] = matrix.tolist()
    (folder / "transforms.json").write_text(json.dumps(document))
    np.testing.assert_allclose(seen_of("nerf", folder).camera_to_world, truth.camera_to_world, atol=1e-5)


def test_nerf_lenses_in_pixels_of_larger_pictures_and_crops(truth, tmp_path):
    folder = write_nerf(truth, tmp_path / "a")
    lens = {"fl_x": 64 * truth.focal, "fl_y": 64 * truth.focal, "cx": 32, "cy": 32, "w": 64, "h": 64}
    changed(folder / "transforms.json", **lens)
    np.testing.assert_allclose(seen_of("nerf", folder).intrinsics, truth.intrinsics, atol=1e-5)
    for number in range(VIEWS):  # two columns more on either side
        wide = np.pad(truth.views.colour[number], ((0, 0), (2, 2), (0, 0)))
        save(wide, folder / f"train/r_{number}.png")
    changed(folder / "transforms.json", fl_x=16 * truth.focal, fl_y=16 * truth.focal, cx=10, cy=8, w=20, h=16)
    seen = seen_of("nerf", folder)
    np.testing.assert_array_equal(seen.colour, truth.views.colour)
    np.testing.assert_allclose(seen.intrinsics, truth.intrinsics, atol=1e-5)


def test_nerf_scenes_in_three_files_of_one_object(truth, tmp_path):
    folder = write_nerf(truth, tmp_path / "boats" / "a")
    document = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").unlink()
    for name, frames in (
        ("train", document["frames"][:4]),
        ("val", document["frames"][4:5]),
        ("test", document["frames"][5:]),
    ):
        (folder / f"transforms_{name}.json").write_text(json.dumps({**document, "frames": frames}))
    write_nerf(truth, tmp_path / "boats" / "b")
    found = listed("nerf", tmp_path)
    assert [(entry.source_id, entry.category) for entry in found] == [
        ("nerf/boats/a", "boats"),
        ("nerf/boats/b", "boats"),
    ]
    np.testing.assert_array_equal(seen_of("nerf", tmp_path).colour, truth.views.colour)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"camera_angle_x": None}, "camera_angle_x: not 1 finite"),
        ({"k1": 0.1}, "distortion"),
        ({"frames": 3}, "no frames"),
        ({"aabb": [[0, 0, 0], [0, 0, 0]]}, "no size"),
        ({"frames": [{"file_path": "../../x.png"}] * VIEWS}, "outside"),
        ({"frames": [{"file_path": "http://x/y.png"}] * VIEWS}, "refers to"),
        ({"frames": [{"file_path": "train/none"}] * VIEWS}, "no picture"),
        ({"frames": [{"file_path": "train/r_0", "transform_matrix": [[1, 0], [0, 1]]}] * VIEWS}, "not 4 x 4 finite"),
        (
            {"frames": [{"file_path": "train/r_0", "transform_matrix": np.diag([2, 1, 1, 1]).tolist()}] * VIEWS},
            "no rotation",
        ),
    ],
)
def test_damaged_nerf_scenes(truth, tmp_path, values, message):
    folder = write_nerf(truth, tmp_path / "a")
    changed(folder / "transforms.json", **values)
    with pytest.raises(MeshError, match=message):
        seen_of("nerf", folder)


def test_a_wrong_up_is_seen_from_the_cameras(truth, tmp_path):
    folder = write_nerf(truth, tmp_path / "a")
    with pytest.raises(MeshError, match=r"upright along .*`up` of the collection is wrong"):
        seen_of("nerf", folder, up="y")


def test_the_front_can_be_turned(truth, tmp_path):
    seen = seen_of("nerf", write_nerf(truth, tmp_path / "a"), turn=90)
    x, y, z = truth.camera_to_world[:, :3, 3].T
    np.testing.assert_allclose(seen.camera_to_world[:, :3, 3], np.stack([z, y, -x], axis=1), atol=1e-5)


def test_srn_sets_tell_category_and_split(truth, tmp_path):
    names = {
        "cars_train/x": ("car", "train"),
        "cars_train_val/x": ("car", "train"),
        "cars_val/y": ("car", "validation"),
        "chairs_test/z": ("chair", "test"),
        "02691156/w": ("plane", ""),
        "other/v": ("object", ""),
    }
    for name in names:
        (tmp_path / name / "rgb").mkdir(parents=True)
        (tmp_path / name / "intrinsics.txt").write_text("")
    found = {entry.source_id.removeprefix(f"srn/{tmp_path.name}/"): entry for entry in listed("srn", tmp_path)}
    assert {name: (entry.category, entry.official_split) for name, entry in found.items()} == names
    assert found["cars_train/x"].shape_id == found["cars_train_val/x"].shape_id
    assert {entry.category for entry in listed("srn", tmp_path / "other", category="lamp")} == {"lamp"}


def test_srn_poses_may_be_inverse_and_worlds_may_have_y_up(truth, tmp_path):
    folder = write_srn(truth, tmp_path / "a")
    (folder / "intrinsics.txt").write_text((folder / "intrinsics.txt").read_text() + "1\n")
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        np.savetxt(folder / f"pose/{number:06d}.txt", np.linalg.inv(moved(pose, TO_SRN, 0.6)))
    np.testing.assert_allclose(seen_of("srn", folder).camera_to_world, truth.camera_to_world, atol=1e-5)
    (folder / "intrinsics.txt").write_text(f"{16 * truth.focal} 8 8 0\n16 16\n")
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        np.savetxt(folder / f"pose/{number:06d}.txt", moved(pose, np.diag([-1.0, 1, -1]), 0.6))
    seen = seen_of("srn", folder, up="y")
    np.testing.assert_allclose(seen.camera_to_world, truth.camera_to_world, atol=1e-5)
    np.testing.assert_allclose(seen.intrinsics, truth.intrinsics, atol=1e-5)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("intrinsics.txt", "525 256\n", "not focal length"),
        ("intrinsics.txt", "a b c d\n", "not a number"),
        ("pose/000000.txt", "1 2 3", "not 4 x 4 finite"),
        ("pose/000000.txt", "nan " * 16, "not 4 x 4 finite"),
        ("rgb/000000.png", "no picture", "no image"),
    ],
)
def test_damaged_srn_objects(truth, tmp_path, name, text, message):
    folder = write_srn(truth, tmp_path / "a")
    (folder / name).write_text(text)
    with pytest.raises(MeshError, match=message):
        seen_of("srn", folder)


@pytest.mark.parametrize(
    "document, message",
    [
        ("{", "no labels"),
        ("[]", "no labels"),
        ('{"labels": null}', "no labels"),
        ('{"labels": [["a.png", [1]]]}', "25"),
    ],
)
def test_damaged_eg3d_labels(tmp_path, document, message):
    (tmp_path / "dataset.json").write_text(document)
    with pytest.raises(RecipeError, match=message):
        listed("eg3d", tmp_path)


def test_damaged_eg3d_pictures(truth, tmp_path):
    folder = write_eg3d(truth, tmp_path / "a")
    entries = listed("eg3d", folder, category="cat")
    assert entries[0].captions == ("a cat",)
    with pytest.raises(MeshError, match="1 views, but dataset.cameras.views is 2"):
        load_views(entries[0], LIMITS, 2, 16)
    save(np.zeros((16, 20, 3), np.uint8), folder / "00000/img00000000.png")
    with pytest.raises(MeshError, match="20 x 16 pixels, not a square"):
        load_views(entries[0], LIMITS, 1, 16)
    (folder / "dataset.json").write_text(json.dumps({"labels": [["../b.png", [1.0] * 25]]}))
    with pytest.raises(MeshError, match="outside"):
        load_views(listed("eg3d", folder)[0], LIMITS, 1, 16)


def test_gobjaverse_captions(truth, tmp_path):
    for name in ("0/10", "1/10"):
        write_gobjaverse(truth, tmp_path / "set" / name)
    (tmp_path / "set/text_captions_cap3d.json").write_text(json.dumps({"1/10": "A red deer."}))
    (tmp_path / "kinds.json").write_text(json.dumps({"Animals": ["1/10"]}))
    first, second = listed("gobjaverse", tmp_path / "set", annotations=str(tmp_path / "kinds.json"), category="thing")
    assert (first.source_id, first.category, first.captions, first.own_captions) == (
        "gobjaverse/0/10",
        "thing",
        ("a thing",),
        False,
    )
    assert (second.category, second.captions, second.own_captions) == ("animals", ("a red deer",), True)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"x": [1, 2]}, "x: not 3"),
        ({"x_fov": 4}, "field of view"),
        ({"y": [1, 1, 1]}, "no rotation"),
        ({"origin": None}, "origin"),
    ],
)
def test_damaged_gobjaverse_cameras(truth, tmp_path, values, message):
    folder = write_gobjaverse(truth, tmp_path / "0/1")
    changed(folder / "campos_512_v4/00000/00000.json", **values)
    with pytest.raises(MeshError, match=message):
        seen_of("gobjaverse", tmp_path)


@pytest.mark.parametrize(
    "content, message", [(np.zeros((4, 4, 4), np.float32), "numbers for"), (b"no array", "a damaged file")]
)
def test_damaged_gobjaverse_buffers(truth, tmp_path, content, message):
    folder = write_gobjaverse(truth, tmp_path / "0/1")
    path = folder / "campos_512_v4/00000/00000_nd.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(MeshError, match=message):
        seen_of("gobjaverse", tmp_path)


def test_depths_that_are_not_numbers_are_background(truth, tmp_path):
    folder = write_gobjaverse(truth, tmp_path / "0/1")
    path = folder / "campos_512_v4/00000/00000_nd.npy"
    stored = np.load(path)
    stored[::2] = np.nan
    stored[1::2, :, 3] = np.inf
    np.save(path, stored)
    seen = seen_of("gobjaverse", tmp_path)
    assert np.isfinite(seen.depth).all() and np.isfinite(seen.normal).all() and not seen.depth[0].any()


def test_exr_files_without_their_package(truth, tmp_path, monkeypatch):
    folder = write_gobjaverse(truth, tmp_path / "0/1")
    (folder / "campos_512_v4/00000/00000_nd.exr").write_bytes(b"")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "OpenEXR" else find(name))
    with pytest.raises(RecipeError, match="need the package OpenEXR") as caught:
        listed("gobjaverse", tmp_path)
    assert "ln3d[exr]" in caught.value.hint


def test_damaged_exr_files(truth, tmp_path):
    pytest.importorskip("OpenEXR")
    folder = write_gobjaverse(truth, tmp_path / "0/1")
    (folder / "campos_512_v4/00000/00000_nd.exr").write_bytes(b"no EXR file")
    with pytest.raises(MeshError, match="a damaged EXR file"):
        seen_of("gobjaverse", tmp_path)


def test_changed_files_and_settings_change_the_stamp(truth, tmp_path):
    folder = write_nerf(truth, tmp_path / "a")
    before = listed("nerf", folder)[0].stamp
    assert listed("nerf", folder)[0].stamp == before
    assert listed("nerf", folder, turn=90)[0].stamp != before
    changed(folder / "transforms.json", more=1)
    assert listed("nerf", folder)[0].stamp != before
