import json

import pytest

from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.shard_files import index_name, shard_name, tar_blocks
from ln3d.data.unfinished import WHOLE, Part, UnfinishedShards, parse_part
from ln3d.errors import ArtifactError, RecipeError

COUNT, PER_SHARD = 7, 3


def start(folder, mark="m", part=WHOLE):
    return UnfinishedShards(folder / "shards.partial", mark, COUNT, PER_SHARD, part)


def run_of(key):
    record = {"key": key, "category": "thing", "views": 1, "resolution": 8, "depth_scale": 0.1}
    return tar_blocks([(f"{key}.json", json.dumps(record).encode()), (f"{key}.data", key.encode() * 100)])


def finish(unfinished, rejected=(1, 4)):
    for place in unfinished.missing():
        key = unfinished.key(place)
        if place in rejected:
            unfinished.reject(key, f"reason {place}")
        else:
            unfinished.keep(key, run_of(key))
    unfinished.seal_shards()
    return {path.name: path.read_bytes() for path in sorted(unfinished.result.iterdir())}


def test_shards_cover_fixed_ranges_whatever_is_rejected(tmp_path):
    files = finish(start(tmp_path))
    assert list(files) == [name(n) for n in range(3) for name in (index_name, shard_name)]
    keys = [{name.partition(".")[0] for name in json.loads(files[index_name(n)])} for n in range(3)]
    assert keys == [{"00000", "00002"}, {"00003", "00005"}, {"00006"}]


@pytest.mark.parametrize("order", [[6, 0, 1, 5], [2, 1, 0, 3], []])
def test_taken_up_again_it_gives_the_same_bytes(tmp_path, order):
    (tmp_path / "whole").mkdir()
    whole = finish(start(tmp_path / "whole"))
    first = start(tmp_path)
    for place in order:
        key = first.key(place)
        first.reject(key, f"reason {place}") if place in (1, 4) else first.keep(key, run_of(key))
    second = start(tmp_path)
    assert second.missing() == [place for place in range(COUNT) if place not in order]
    assert finish(second) == whole


def test_leftovers_of_a_killed_write_are_swept_away(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = finish(start(tmp_path / "whole"))
    first = start(tmp_path)
    (first.result / shard_name(1)).write_bytes(b"half a shard")
    (first.result / f".{index_name(0)}.123").write_bytes(b"{")
    (first.result / "catalogue.json").write_bytes(b"{")
    (first.folder / "objects" / ".00002.run.123").write_bytes(b"half")
    assert finish(start(tmp_path)) == whole


def test_a_shard_completed_just_before_a_kill_is_sealed(tmp_path, monkeypatch):
    first = start(tmp_path)
    monkeypatch.setattr(first, "_seal_if_complete", lambda number: None)
    for place in range(COUNT):
        first.keep(first.key(place), run_of(first.key(place)))
    second = start(tmp_path)
    assert second.missing() == []
    second.seal_shards()
    assert (second.result / shard_name(2)).is_file()


def test_another_recipe_is_refused(tmp_path):
    start(tmp_path, "one")
    with pytest.raises(ArtifactError, match="another recipe"):
        start(tmp_path, "two")


def test_a_damaged_object_is_drawn_again(tmp_path):
    first = start(tmp_path)
    for place in (0, 2):
        first.keep(first.key(place), run_of(first.key(place)))
    (first.folder / "objects" / "00000.run").write_bytes(b"x" * 1024)
    second = start(tmp_path)
    assert second.missing() == [0, 1, 3, 4, 5, 6]


def test_the_catalogue_tells_objects_and_rejections(tmp_path):
    unfinished = start(tmp_path)
    finish(unfinished)
    entries = [CatalogueEntry(f"s/{n}", f"h{n}", f"n{n}", "thing", (), "", "", ("x", {})) for n in range(COUNT)]
    catalogue = unfinished.catalogue(entries, {"views": 1})
    assert [record["key"] for record in catalogue["objects"]] == ["00000", "00002", "00003", "00005", "00006"]
    assert [(r["source_id"], r["reason"]) for r in catalogue["rejected"]] == [("s/1", "reason 1"), ("s/4", "reason 4")]
    unfinished.write_catalogue(catalogue)
    assert json.loads((unfinished.result / "catalogue.json").read_text()) == catalogue


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_cover_everything_once_and_give_the_same_bytes(tmp_path, count):
    (tmp_path / "whole").mkdir()
    whole = finish(start(tmp_path / "whole"))
    parts = [start(tmp_path, part=Part(index, count)) for index in range(1, count + 1)]
    assert sorted(place for part in parts for place in part.places()) == list(range(COUNT))
    for number, part in enumerate(reversed(parts)):
        assert part.unsealed() == 3 - sum(len(done.numbers) for done in parts[count - number :])
        finish(part)
    assert parts[0].unsealed() == 0
    last = start(tmp_path)
    assert last.missing() == [] and finish(last) == whole
    assert last.rejections == 2


def test_a_part_leaves_the_others_work_alone(tmp_path):
    first = start(tmp_path, part=Part(1, 2))
    others = [first.result / shard_name(1), first.result / f".{index_name(1)}.x", first.result / ".catalogue.json.x"]
    own = [first.result / shard_name(0), first.result / f".{index_name(2)}.x"]
    for path in (*others, *own):
        path.write_bytes(b"half")
    (first.folder / "objects" / "00003.run").write_bytes(b"half")
    again = start(tmp_path, part=Part(1, 2))
    assert [path.exists() for path in (*others, *own)] == [True] * 3 + [False] * 2
    assert again.missing() == again.places() == [0, 1, 2, 6]


def test_a_part_is_written_i_of_n():
    assert parse_part("2/8") == Part(2, 8) and str(Part(2, 8)) == "2/8"
    assert parse_part("1/1") == WHOLE
    for text in ("0/3", "4/3", "1/0", "1", "a/b", "-1/3", "1/2/3", ""):
        with pytest.raises(RecipeError, match="not a part") as error:
            parse_part(text)
        assert "i/n" in error.value.hint
