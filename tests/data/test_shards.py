import json
import os
import tarfile
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from ln3d.artifacts.publish import open_artifact, publish
from ln3d.data import shards as shards_module
from ln3d.data.ids import Ids
from ln3d.data.members import ObjectRecord, depth_scale, object_members, pack_depth, pack_normal, unpack_normal
from ln3d.data.shard_files import index_name, index_of, shard_name, tar_blocks, write_shard
from ln3d.data.shards import CATALOGUE_NAME, ShardSet
from ln3d.data.views import Views
from ln3d.errors import ArtifactError

SIZE, VIEWS, SCALE = 8, 3, depth_scale(3.2)


def make_object(place):
    random = np.random.default_rng(place)
    normal = random.normal(size=(VIEWS, SIZE, SIZE, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    depth = random.uniform(2, 4.5, (VIEWS, SIZE, SIZE)).astype(np.float32)
    hole = random.random((VIEWS, SIZE, SIZE)) < 0.3
    depth[hole], normal[hole] = 0, 0
    views = Views(random.integers(0, 256, (VIEWS, SIZE, SIZE, 4), dtype=np.uint8), depth, normal)
    record = ObjectRecord(-1, f"{place:05d}", f"made/{place}", f"s{place}", f"thing {place}", "thing", "train",
                          (f"a thing {place}",), "CC0-1.0", "nobody", ("red",))  # fmt: skip
    poses = random.normal(size=(VIEWS, 4, 4)).astype(np.float32)
    return record, views, poses, random.normal(size=(VIEWS, 3, 3)).astype(np.float32)


@pytest.fixture
def artifact(tmp_path):
    records = []
    with publish(tmp_path / "shards", "shards", recipe={"name": "t"}) as folder:
        for number, places in enumerate([(0, 2), (3,)]):  # object 1 was rejected
            runs = []
            for place in places:
                record, *rest = make_object(place)
                runs.append(tar_blocks(object_members(record, *rest, SCALE)))
                records.append({k: v for k, v in record.__dict__.items() if k != "index"})
            write_shard(folder, number, runs)
        rejected = [{"key": "00001", "source_id": "made/1", "name": "thing 1", "category": "thing", "reason": "empty"}]
        head = {"views": VIEWS, "resolution": SIZE, "depth_scale": SCALE, "objects_per_shard": 3}
        (folder / CATALOGUE_NAME).write_text(json.dumps({**head, "objects": records, "rejected": rejected}))
    return open_artifact(tmp_path / "shards")


def test_everything_comes_back(artifact):
    shards = ShardSet(artifact)
    assert len(shards) == 3
    assert (shards.views, shards.resolution) == (VIEWS, SIZE)
    assert shards.rejected[0].reason == "empty"
    for i, place in enumerate([0, 2, 3]):
        record, views, poses, matrices = make_object(place)
        assert shards.objects[i] == ObjectRecord(**{**record.__dict__, "index": i})
        np.testing.assert_array_equal(shards.camera_to_world(i), poses)
        np.testing.assert_array_equal(shards.intrinsics(i), matrices)
        for v in range(VIEWS):
            np.testing.assert_array_equal(shards.colour(i, v), views.colour[v])
            np.testing.assert_allclose(shards.depth(i, v), views.depth[v], atol=SCALE)
            np.testing.assert_array_equal(shards.depth(i, v) == 0, views.depth[v] == 0)
            np.testing.assert_allclose(shards.normal(i, v), views.normal[v], atol=0.01)


def test_ids_come_back_where_there_are_some(tmp_path, artifact):
    with pytest.raises(ArtifactError, match="made/0 was drawn without ids"):
        ShardSet(artifact).ids(0, 0)
    record, views, *rest = make_object(0)
    face = np.where(views.depth > 0, np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 9999, -1).astype(np.int32)
    ids = Ids(np.where(face >= 0, face % 7, -1).astype(np.int32), face)
    with publish(tmp_path / "named", "shards", recipe={"name": "t"}) as folder:
        write_shard(folder, 0, [tar_blocks(object_members(record, views, *rest, SCALE, ids))])
        records = [{k: v for k, v in record.__dict__.items() if k != "index"}]
        head = {"views": VIEWS, "resolution": SIZE, "depth_scale": SCALE, "objects_per_shard": 3}
        (folder / CATALOGUE_NAME).write_text(json.dumps({**head, "objects": records, "rejected": []}))
    shards = ShardSet(open_artifact(tmp_path / "named"))
    for v in range(VIEWS):
        part, found = shards.ids(0, v)
        np.testing.assert_array_equal(found, ids.face[v])
        np.testing.assert_array_equal(part, ids.part[v])


def test_the_archive_is_a_plain_tar_in_the_webdataset_convention(artifact):
    with tarfile.open(artifact.path / shard_name(0)) as archive:
        names = archive.getnames()
        assert {name.partition(".")[0] for name in names} == {"00000", "00002"}
        assert names[:3] == ["00000.json", "00000.cameras.json", "00000.000.colour.png"]
        described = json.load(archive.extractfile("00002.json"))
    assert described["captions"] == ["a thing 2"]
    assert described["depth_scale"] == SCALE


def test_equal_content_gives_equal_bytes(tmp_path):
    record, *rest = make_object(5)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, 0, [tar_blocks(object_members(record, *rest, SCALE))])
    for file in (shard_name(0), index_name(0)):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_index_tells_where_the_bytes_are():
    members = [("a.json", b"{}"), ("b.000.colour.png", bytes(range(256)) * 7), ("c", b"")]
    blocks = tar_blocks(members)
    assert len(blocks) % 512 == 0
    index = index_of(blocks, start=1024)
    for name, data in members:
        offset, length, _ = index[name]
        assert blocks[offset - 1024 :][:length] == data


def test_any_flipped_byte_of_a_member_is_a_named_error(artifact):
    shards = ShardSet(artifact)
    path = artifact.path / shard_name(0)
    good = path.read_bytes()
    index = json.loads((artifact.path / index_name(0)).read_text())
    offset, length, _ = index["00002.001.depth.png"]
    for place in np.linspace(offset, offset + length - 1, 9, dtype=int):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(ArtifactError, match=r"shard-00000\.tar: 00002\.001\.depth\.png is damaged"):
            shards.depth(1, 1)
        shards.colour(1, 1)
    shards.close()


def test_a_cut_shard_a_changed_index_and_a_changed_catalogue_are_named_errors(artifact):
    shards = ShardSet(artifact)
    path = artifact.path / shard_name(1)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="damaged"):
        shards.normal(2, 2)
    for name in (index_name(0), CATALOGUE_NAME):
        file = artifact.path / name
        file.write_text(file.read_text().replace("0", "1", 1))
        with pytest.raises(ArtifactError, match=name):
            ShardSet(artifact).colour(0, 0)


def test_it_travels_to_other_processes(artifact):
    shards = ShardSet(artifact)
    expected = shards.colour(0, 0)
    np.testing.assert_array_equal(ForkingPickler.loads(ForkingPickler.dumps(shards)).colour(0, 0), expected)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(shards.colour(0, 0), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_more_files_stay_open_than_a_process_may_have(artifact, monkeypatch):
    """However many shards there are: the one used longest ago is closed, and opened again when it is needed."""
    held = set()
    opened, closed = os.open, os.close

    def open_and_note(*arguments, **options):
        descriptor = opened(*arguments, **options)
        held.add(descriptor)
        return descriptor

    def close_and_note(descriptor):
        held.discard(descriptor)
        closed(descriptor)

    expected = [ShardSet(artifact).colour(i, 0) for i in range(3)]
    monkeypatch.setattr(shards_module, "_AT_HAND", 1)
    monkeypatch.setattr(os, "open", open_and_note)
    monkeypatch.setattr(os, "close", close_and_note)
    shards = ShardSet(artifact)
    for i in (0, 2, 1, 2, 0):  # the third object is in the second shard
        np.testing.assert_array_equal(shards.colour(i, 0), expected[i])
        assert len(held) == len(shards._open) == len(shards._indices) == 1
    shards.close()
    assert not held


def test_depth_of_a_surface_is_never_background():
    assert pack_depth(np.float32([0, 1e-9, 3, 100]), SCALE).tolist() == [0, 1, round(3 / SCALE), 65535]


def test_packed_normals_stay_within_half_a_degree():
    normal = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    cosine = (unpack_normal(pack_normal(normal)) * normal).sum(1)
    assert np.degrees(np.arccos(np.minimum(cosine, 1))).max() < 0.5
    assert (unpack_normal(np.zeros((2, 3), np.uint8)) == 0).all()
