"""Our own renders, written in every foreign layout and read back, are the same pictures and cameras."""

import numpy as np
import pytest
from layouts import SIDE, VIEWS, on_white, truth_of, write_eg3d, write_gobjaverse, write_nerf, write_srn

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import is_rendered, list_objects, load_object, load_views
from ln3d.errors import MeshError

LIMITS = LimitsConfig()


@pytest.fixture(scope="module")
def truth():
    return truth_of()


def listed(kind, root, **options):
    return list_objects(DatasetConfig(collections=(CollectionConfig(kind=kind, path=str(root), **options),)))


def assert_cameras(seen, truth, views=slice(None)):
    np.testing.assert_allclose(seen.camera_to_world, truth.camera_to_world[views], atol=1e-5)
    np.testing.assert_allclose(seen.intrinsics, truth.intrinsics[views], atol=1e-5)


def test_nerf(truth, tmp_path):
    (entry,) = listed("nerf", write_nerf(truth, tmp_path / "my_chair"))
    assert (entry.source_id, entry.name, entry.category) == ("nerf/my_chair", "my chair", "object")
    seen = load_views(entry, LIMITS, VIEWS, SIDE)
    np.testing.assert_array_equal(seen.colour, truth.views.colour)
    assert_cameras(seen, truth)
    assert seen.lacks == ("depth", "normal")


def test_srn(truth, tmp_path):
    write_srn(truth, tmp_path / "chairs_train/abc")
    (entry,) = listed("srn", tmp_path)
    assert (entry.category, entry.official_split, entry.captions) == ("chair", "train", ("a chair",))
    seen = load_views(entry, LIMITS, VIEWS, SIDE)
    np.testing.assert_array_equal(on_white(seen.colour), on_white(truth.views.colour))
    clear = truth.views.colour[..., 3] == 0
    assert set(np.unique(seen.colour[..., 3])) == {0, 255} and not seen.colour[clear][:, 3].any()
    assert_cameras(seen, truth)
    assert seen.lacks == ("depth", "normal")


def test_eg3d(truth, tmp_path):
    found = listed("eg3d", write_eg3d(truth, tmp_path / "ffhq_crops"))
    assert len(found) == 2 * VIEWS and len({entry.shape_id for entry in found}) == VIEWS
    assert {entry.category for entry in found} == {"face"}
    for number, entry in enumerate(found[::2]):
        seen = load_views(entry, LIMITS, 1, SIDE)
        np.testing.assert_array_equal(seen.colour[0, ..., :3], on_white(truth.views.colour[number]))
        assert_cameras(seen, truth, slice(number, number + 1))
        assert seen.lacks == ("depth", "normal", "mask") and (seen.colour[..., 3] == 255).all()


@pytest.mark.parametrize("exr", [False, True])
def test_gobjaverse(truth, tmp_path, exr):
    if exr:
        pytest.importorskip("OpenEXR")
    write_gobjaverse(truth, tmp_path / "Daily_Used/3/17", exr=exr)
    (entry,) = listed("gobjaverse", tmp_path)
    assert (entry.source_id, entry.category) == ("gobjaverse/3/17", "daily used")
    seen = load_views(entry, LIMITS, VIEWS, SIDE)
    assert seen.lacks == ()
    assert_cameras(seen, truth)
    ours, theirs = truth.views.colour.astype(int), seen.colour.astype(int)
    alpha = ours[..., 3]
    np.testing.assert_array_equal(theirs[..., 3], alpha)
    np.testing.assert_array_equal(theirs[alpha == 255], ours[alpha == 255])
    part = (alpha > 0) & (alpha < 255)  # of premultiplied bytes, half a step is lost
    assert part.any() and (np.abs(theirs - ours)[part].max(axis=-1) <= 0.5 + 127.5 / alpha[part]).all()
    solid = alpha == 255
    np.testing.assert_allclose(seen.depth[solid], truth.views.depth[solid], atol=2e-5)
    np.testing.assert_allclose(seen.normal[solid], truth.views.normal[solid], atol=2e-5)
    assert not seen.depth[alpha < 128].any() and not seen.normal[alpha < 128].any()


def test_gobjaverse_without_buffers_has_neither_depth_nor_normals(truth, tmp_path):
    folder = write_gobjaverse(truth, tmp_path / "3/17")
    (folder / "campos_512_v4/00002/00002_nd.npy").unlink()
    seen = load_views(listed("gobjaverse", tmp_path)[0], LIMITS, VIEWS, SIDE)
    assert seen.lacks == ("depth", "normal") and not seen.views().depth.any()


def test_fewer_views_are_evenly_spaced_and_more_are_refused(truth, tmp_path):
    (entry,) = listed("nerf", write_nerf(truth, tmp_path / "a"))
    seen = load_views(entry, LIMITS, 3, SIDE)
    np.testing.assert_array_equal(seen.colour, truth.views.colour[::2])
    assert_cameras(seen, truth, slice(None, None, 2))
    with pytest.raises(MeshError, match="6 views, but dataset.cameras.views is 7"):
        load_views(entry, LIMITS, 7, SIDE)


def test_smaller_pictures_are_means_of_light_and_larger_ones_are_refused(truth, tmp_path):
    (entry,) = listed("nerf", write_nerf(truth, tmp_path / "a"))
    seen = load_views(entry, LIMITS, VIEWS, SIDE // 2)
    rgba = truth.views.colour.astype(np.float64).reshape(VIEWS, SIDE // 2, 2, SIDE // 2, 2, 4)
    alpha = rgba[..., 3:]
    mean = (rgba[..., :3] * alpha).sum(axis=(2, 4)) / np.maximum(alpha.sum(axis=(2, 4)), 1)
    there = seen.colour[..., 3] > 0
    np.testing.assert_allclose(seen.colour[..., :3][there], mean[there], atol=0.51)
    np.testing.assert_allclose(seen.colour[..., 3], alpha.mean(axis=(2, 4))[..., 0], atol=0.51)
    assert_cameras(seen, truth)  # intrinsics are in picture sizes
    with pytest.raises(MeshError, match="a picture of 32 pixels, but dataset.resolution is 64"):
        load_views(entry, LIMITS, VIEWS, 2 * SIDE)


def test_picked_depth_is_that_of_a_ray_within_the_pixel(truth, tmp_path):
    write_gobjaverse(truth, tmp_path / "3/17")
    (entry,) = listed("gobjaverse", tmp_path)
    seen = load_views(entry, LIMITS, VIEWS, SIDE // 2)
    solid = truth.views.colour[:, 1::2, 1::2, 3] == 255
    np.testing.assert_allclose(seen.depth[solid], truth.views.depth[:, 1::2, 1::2][solid], atol=2e-5)


def test_pictures_are_no_meshes(truth, tmp_path):
    (entry,) = listed("nerf", write_nerf(truth, tmp_path / "a"))
    assert is_rendered(entry)
    with pytest.raises(MeshError, match="comes as pictures"):
        load_object(entry, LIMITS)
