import json

import pytest

from ln3d.config.render import CollectionConfig, DatasetConfig
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.own_captions import read_own_captions
from ln3d.errors import RecipeError

MESHES = frozenset({"chair/a.ply", "chair/b.ply"})


def write(folder, name, text):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_both_formats_say_the_same(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "jsonl").mkdir()
    write(
        tmp_path / "csv",
        "captions.csv",
        'path,caption,category\nchair/a.ply,"An oak, old",stool\n./chair/a.ply,seat,\n',
    )
    lines = [
        {"path": "chair/a.ply", "caption": "An oak, old", "category": "stool"},
        {"path": "./chair/a.ply", "caption": "seat"},
    ]
    write(tmp_path / "jsonl", "captions.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    found = [read_own_captions(tmp_path / kind, MESHES) for kind in ("csv", "jsonl")]
    assert [row["caption"] for row in found[0]["chair/a.ply"]] == ["An oak, old", "seat"]
    kept = [{m: [{**r, "path": ""} for r in rows] for m, rows in one.items()} for one in found]
    assert kept[0] == kept[1]
    assert read_own_captions(tmp_path, MESHES) == {}


def test_a_line_may_have_several_captions(tmp_path):
    write(tmp_path, "captions.jsonl", '{"path": "chair/b.ply", "captions": ["one", " two "], "licence": "CC0"}')
    rows = read_own_captions(tmp_path, MESHES)["chair/b.ply"]
    assert [(row["caption"], row["licence"]) for row in rows] == [("one", "CC0"), ("two", "CC0")]


GOOD = '{"path": "chair/a.ply", "caption": "x"}\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("captions.csv", "path,text\n", r"captions\.csv:1: no column 'caption'"),
        ("captions.csv", "path,caption\nchair/a.ply,x\nchair/z.ply,x\n", r"captions\.csv:3: no mesh 'chair/z\.ply'"),
        ("captions.csv", "path,caption\nchair/a.ply,a chair, red\n", r"captions\.csv:2: more than 2 columns"),
        ("captions.csv", "path,caption\nchair/a.ply\n", r"captions\.csv:2: no caption"),
        ("captions.csv", 'path,caption\nchair/a.ply,"x" y\n', r"captions\.csv:2: not CSV"),
        ("captions.csv", b"path,caption\nchair/a.ply,x\nchair/b.ply,\xff\n", r"captions\.csv:3: not UTF-8"),
        ("captions.jsonl", GOOD + "{", r"captions\.jsonl:2: not JSON"),
        ("captions.jsonl", GOOD + "[" * 100_000, r"captions\.jsonl:2: not JSON"),
        ("captions.jsonl", GOOD + "\n[1]", r"captions\.jsonl:3: no object with path and caption"),
        ("captions.jsonl", '{"caption": "x"}', r"captions\.jsonl:1: no object"),
        ("captions.jsonl", '{"path": "chair/a.ply"}', r"captions\.jsonl:1: no object"),
        ("captions.jsonl", '{"path": "chair/a.ply", "caption": 3}', r"captions\.jsonl:1: no object"),
        ("captions.jsonl", '{"path": "chair/a.ply", "captions": []}', r"captions\.jsonl:1: no object"),
        ("captions.jsonl", '{"path": "chair/a.ply", "caption": "x", "captions": ["y"]}', r":1: no object"),
        ("captions.jsonl", '{"path": "gone.ply", "caption": "x"}', r"captions\.jsonl:1: no mesh 'gone\.ply'"),
    ],
)
def test_a_malformed_line_is_one_error_that_names_it(tmp_path, name, text, message):
    with pytest.raises(RecipeError, match=message) as error:
        read_own_captions(write(tmp_path, name, text), MESHES)
    assert error.value.hint and "\n" not in error.value.message


def test_two_files_are_one_too_many(tmp_path):
    write(write(tmp_path, "captions.csv", "path,caption\n"), "captions.jsonl", GOOD)
    with pytest.raises(RecipeError, match="both captions.csv and captions.jsonl"):
        read_own_captions(tmp_path, MESHES)


def test_own_captions_win_over_names(tmp_path):
    (tmp_path / "chair").mkdir()
    for name in sorted(MESHES):
        (tmp_path / name).write_text("ply\n")
    write(tmp_path, "captions.jsonl", '{"path": "chair/a.ply", "captions": ["An Oak seat", "an oak chair"]}')
    dataset = DatasetConfig(collections=(CollectionConfig(kind="folder", path=str(tmp_path)),))
    first, second = list_objects(dataset)
    assert (first.captions, first.own_captions) == (("an oak seat", "an oak chair"), True)
    assert second.own_captions is False and "a chair" in second.captions
