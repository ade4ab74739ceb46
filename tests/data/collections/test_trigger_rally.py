"""Trigger Rally's cars, on a miniature of the game's archive: wheels, fronts, paints, names that do not match."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.errors import MeshError, RecipeError

LIMITS = LimitsConfig()
BODY = "mtllib a_wrc.mtl\nv 80 0 0\nv -80 0 0\nv 0 150 80\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl {}\nf 1/1 2/2 3/3\n"
WHEEL = "mtllib a_wrc.mtl\nv 10 0 0\nv 10 30 0\nv 10 0 30\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl _a.png\nf 1/1 2/2 3/3\n"
VEHICLE = (
    '<?xml version="1.0" ?><vehicle name="Cordo" class="WRC" type="car"><genparams wheelmodel="a_wheel.obj" '
    'wheelscale="0.1"/><part name="body" pos="0, 9, 9" model="a_wrc.obj" scale="0.01">'
    '<wheel pos="0.6, 0.9, -0.1" radius="0.3" steer="0.8"/><wheel pos="-0.6, 0.9, -0.1" radius="0.3"/>'
    '<clip type="body" pos="1, 1, 1"/></part></vehicle>'
)


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), colour).save(buffer, "PNG")
    return buffer.getvalue()


def package(root, **cars):
    """Write data.zip with a car per keyword: files by name, beside the usual ones."""
    path = root / "usr/share/games/trigger-rally/data.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for car, changed in cars.items():
            files = {
                f"{car}.vehicle": VEHICLE,
                "a_wrc.obj": BODY.format("_other.png"),
                "a_wheel.obj": WHEEL,
                "a_wrc.mtl": "newmtl _a.png\nKd 0.5 0.5 0.5\nd 1\nmap_Kd a.png\n",
                "a.png": picture((200, 10, 10, 0)),
            }
            for name, content in {**files, **changed}.items():
                archive.writestr(f"vehicles/{car}/{name}", content)
        archive.writestr("maps/hill/tree.obj", "no car")
    return root


def listed(root, **options):
    return list_objects(DatasetConfig(collections=(CollectionConfig(kind="trigger-rally", path=str(root), **options),)))


def test_paints_of_a_body_are_one_shape(tmp_path):
    other = {"a_wrc.obj": BODY.format("_x.png").replace("150", "140")}
    found = listed(package(tmp_path, a_wrc={}, a_kitcar={"a_wrc.obj": "# another\n" + BODY.format("_y.png")}, b=other))
    assert [entry.source_id for entry in found] == [f"trigger-rally/{name}" for name in ("a_kitcar", "a_wrc", "b")]
    assert found[0].shape_id == found[1].shape_id != found[2].shape_id
    assert (found[1].name, found[1].category) == ("cordo world rally car", "car")
    assert found[1].captions[0] == "a cordo world rally car" and found[1].licence == "GPL-2.0-or-later"


def test_the_nose_is_to_plus_z_on_wheels_of_the_told_radius(tmp_path):
    body, left, right = load_object(listed(package(tmp_path, a_wrc={}))[0], LIMITS).parts
    np.testing.assert_allclose(body.vertices, [[-0.8, 0, 0], [0.8, 0, 0], [0, 0.8, 1.5]], atol=1e-6)
    # a wheel of the game's right (+x) is at -x, its outer face outside; 30 units * 0.1 * 0.3 is its radius
    np.testing.assert_allclose(left.vertices, [[-0.9, -0.1, 0.9], [-0.9, -0.1, 1.8], [-0.9, 0.8, 0.9]], atol=1e-6)
    np.testing.assert_allclose(right.vertices[:, 0], 0.9, atol=1e-6)


def test_the_texture_is_worn_whatever_the_material_is_called_and_its_alpha_is_gloss(tmp_path):
    for part in load_object(listed(package(tmp_path, a_wrc={}))[0], LIMITS).parts:
        assert part.texture[0, 0, :3].tolist() == [200, 10, 10] and not part.cutout and part.uv is not None


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"a.vehicle": VEHICLE.replace("a_wrc.obj", "../b/b.obj")}, "no model"),
        ({"a.vehicle": VEHICLE.replace("a_wrc.obj", "/etc/passwd")}, "outside"),
        ({"a.vehicle": VEHICLE.replace("a_wheel.obj", "gone.obj")}, "no model 'gone.obj'"),
        ({"a.vehicle": VEHICLE.replace("0.6, 0.9, -0.1", "0.6")}, "without a position"),
        ({"a.vehicle": VEHICLE.replace("0.6, 0.9, -0.1", "far")}, "not made of numbers"),
        ({"a_wrc.obj": "v 0 0 0\n"}, "no triangles|cannot be parsed"),
    ],
)
def test_damaged_cars_are_refused(tmp_path, changed, message):
    (entry,) = listed(package(tmp_path, a=changed))
    with pytest.raises(MeshError, match=message):
        load_object(entry, LIMITS)


def test_what_is_unpacked_has_a_limit(tmp_path):
    (entry,) = listed(package(tmp_path, a={}))
    with pytest.raises(MeshError, match="more than 100"):
        load_object(entry, LimitsConfig(file_bytes=100))


def test_no_archive(tmp_path):
    with pytest.raises(RecipeError, match="no data.zip"):
        listed(tmp_path)
