"""What is packed for evaluation away from the shards: the same again, goes on when killed, all or nothing."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_sets import PART, QUIET, WHOLE, packed

from ln3d.artifacts.opening import open_artifact
from ln3d.errors import ArtifactError, RecipeError
from ln3d.stages import pack, pack_reference
from ln3d.stages.pack_reference import views_in_turn
from ln3d.stages.reference_share import Share

pytestmark = pytest.mark.usefixtures("in_this_process")


def test_packing_again_gives_the_same_artifact(own: Path, part: Path, tmp_path: Path) -> None:
    again = packed(own, tmp_path / "again", PART)
    ids = [open_artifact(folder / "reference", "reference", verify=True).id for folder in (part, again)]
    assert ids[0] == ids[1]
    before = _times(again)
    packed(own, again, PART)
    assert _times(again) == before  # it is there already
    with pytest.raises(ArtifactError, match="reference was made with another recipe or from other inputs") as refused:
        packed(own, again, WHOLE)
    assert "(-o)" in refused.value.hint and _times(again) == before
    chairs = packed(own, tmp_path / "all", Share(pictures=4, shapes=2))
    details = open_artifact(chairs / "reference", "reference").manifest.details
    assert list(details["categories"]) == ["car"]  # there is one chair in two colours: one shape


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


class _Killed(BaseException):
    """Nothing that anybody catches."""


@pytest.mark.parametrize("moment", range(5))
def test_killed_halfway_it_is_packed_by_the_same_command(
    own: Path, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """It ends before the tensors of any of the files are written: two of the set, one of the VAE, two of the rest."""
    saves, save = iter(range(9)), pack.save_tensors

    def doomed(path: Path, tensors: Any) -> None:
        if next(saves) == moment:
            raise _Killed
        save(path, tensors)

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        for module in (pack, pack_reference):
            patch.setattr(module, "save_tensors", doomed)
        packed(own, tmp_path / "set", PART)
    left = _times(tmp_path / "set")
    packed(own, tmp_path / "set", PART)
    assert left.items() <= _times(tmp_path / "set").items()  # what was finished is kept
    for kind in ("vae", "denoiser", "reference"):
        ids = [open_artifact(folder / kind, kind, verify=True).id for folder in (part, tmp_path / "set")]
        assert ids[0] == ids[1]


def test_a_workspace_without_a_model_gives_the_set_alone(data: Path, tmp_path: Path) -> None:
    folder = packed(data, tmp_path / "set", PART)
    assert [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")] == ["reference"]
    with pytest.raises(ArtifactError, match="no vae"):
        pack.run(data, QUIET, output=tmp_path / "model")
    with pytest.raises(RecipeError, match="--category and --set are for a reference set"):
        pack.run(data, QUIET, output=tmp_path / "model", categories=("car",))


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (Share(("car", "vase")), "no object of category vase"),
        (Share(("chair",)), "only 1 shape of category chair"),
        (Share(("car",), pictures=1), "are too few"),
    ],
)
def test_what_cannot_be_packed_leaves_nothing(data: Path, own: Path, tmp_path: Path, share: Share, words: str) -> None:
    for root in (data, own):
        with pytest.raises(RecipeError, match=words):
            packed(root, tmp_path / "set", share)
        assert not (tmp_path / "set").exists()
    packed(own, tmp_path / "set", PART)  # and nothing is in the way of what can be


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 60), st.integers(0, 3))
def test_views_are_drawn_in_turn(objects: int, views: int, count: int, seed: int) -> None:
    chosen = views_in_turn(objects, views, count, seed, "car")
    assert sum(map(len, chosen.values())) == min(count, objects * views)
    assert all(some == sorted(set(some)) and set(some) <= set(range(views)) for some in chosen.values())
    sizes = [len(chosen.get(place, [])) for place in range(objects)]
    assert max(sizes) - min(sizes) <= 1
    assert chosen == views_in_turn(objects, views, count, seed, "car")


def test_every_view_is_as_likely() -> None:
    seen = Counter(
        (place, view)
        for seed in range(600)
        for place, some in views_in_turn(4, 3, 6, seed, "car").items()
        for view in some
    )
    assert len(seen) == 12 and max(abs(n - 300) for n in seen.values()) < 5 * np.sqrt(600 / 4)
