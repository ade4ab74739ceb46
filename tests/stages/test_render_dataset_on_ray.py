"""`render-dataset` on a Ray cluster of two nodes on this machine, whatever happens to them: the same bytes."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, SplitConfig
from ln3d.data.cluster import RayPool
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.drawing import DrawingOrder, ObjectTask
from ln3d.data.unfinished import UnfinishedShards
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import camera_set
from ln3d.stages import render_dataset
from ln3d.talk import Talk

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(1200)

OBJECTS = 10
RECIPE = Recipe(
    name="tiny",
    dataset=DatasetConfig(
        collections=(CollectionConfig(kind="parametric", limit=OBJECTS),),
        cameras=CameraConfig(views=3),
        resolution=16,
        objects_per_shard=4,
        split=SplitConfig(validation=0.2, test=0.2),
    ),
)
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_register_timeout_seconds": "600"}  # no reports; patience


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with what one process of this machine draws."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    render_dataset.run(RECIPE, workspace, Talk(0), workers=1)
    return workspace


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Return a cluster of two nodes with a core each; this process is a driver on the first."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        nodes = Cluster(initialize_head=True, head_node_args=NODE)
        nodes.add_node(**NODE)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[RayPool]:
    """Return the pools that are made. They hand out nothing before both nodes are ready, so that both have work."""
    made: list[RayPool] = []
    prepare, occupy = RayPool.__init__, RayPool._occupy
    early: list[Any] = []  # the first two places of the last pool

    def remembered(self: RayPool, *arguments: Any) -> None:
        prepare(self, *arguments)
        made.append(self)
        early.clear()

    def together(self: RayPool, place: Any) -> None:
        if len(early) < 2:
            early.append(place)
            for waiting in early if len(early) == 2 else []:
                occupy(self, waiting)
        else:
            occupy(self, place)

    monkeypatch.setattr(RayPool, "__init__", remembered)
    monkeypatch.setattr(RayPool, "_occupy", together)
    return made


def drawn_on(cluster: Any, workspace: Workspace) -> dict[str, Any]:
    return render_dataset.run(RECIPE, workspace, Talk(0), workers=2, ray=cluster.address)


def at_object(monkeypatch: pytest.MonkeyPatch, count: int, happening: Any) -> None:
    """Let something happen when so many objects have been kept."""
    keep, kept = UnfinishedShards.keep, []

    def counted(self: UnfinishedShards, key: str, run: bytes) -> None:
        keep(self, key, run)
        kept.append(key)
        if len(kept) == count:
            happening()

    monkeypatch.setattr(UnfinishedShards, "keep", counted)


def check_same(workspace: Workspace, whole: Workspace) -> None:
    assert workspace.open("shards").id == whole.open("shards").id
    for path in whole.path("shards").iterdir():
        if path.name != "manifest.json":
            assert (workspace.path("shards") / path.name).read_bytes() == path.read_bytes(), path.name


def test_whatever_happens_to_the_nodes_the_bytes_are_the_same(
    cluster: Any, whole: Workspace, pools: list[RayPool], tmp_path: Path
) -> None:
    for happens in (nothing, an_interruption_and_a_killed_actor, the_end_of_a_node):  # one cluster: it takes seconds
        workspace = Workspace(tmp_path / happens.__name__)
        with pytest.MonkeyPatch.context() as patch:
            happens(cluster, workspace, pools, patch)
        check_same(workspace, whole)


def nothing(cluster: Any, workspace: Workspace, pools: list[RayPool], patch: pytest.MonkeyPatch) -> None:
    result = drawn_on(cluster, workspace)
    assert (result["objects"], result["rejected"]) == (OBJECTS, 0)
    assert len(pools[-1].drawn) == 2 and sum(pools[-1].drawn.values()) == OBJECTS


def an_interruption_and_a_killed_actor(
    cluster: Any, workspace: Workspace, pools: list[RayPool], patch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with patch.context() as first:
        at_object(first, 3, interrupted)
        with pytest.raises(KeyboardInterrupt):
            drawn_on(cluster, workspace)
    lost: list[Any] = []

    def killed() -> None:
        lost.extend(place.seat for place in pools[-1]._busy.values() if place.task is not None)
        ray.kill(lost[0])

    at_object(patch, 2, killed)
    drawn_on(cluster, workspace)
    assert lost and sum(pools[-1].drawn.values()) == OBJECTS - 3


def the_end_of_a_node(cluster: Any, workspace: Workspace, pools: list[RayPool], patch: pytest.MonkeyPatch) -> None:
    (second,) = cluster.worker_nodes

    def removed() -> None:
        (there,) = (place for place in pools[-1]._busy.values() if place.node and place.node.id == second.node_id)
        cluster.remove_node(second, allow_graceful=False)
        with pytest.raises(ray.exceptions.RayError):  # its actor outlives the node by a moment, and draws on
            for _ in range(600):
                ray.get(there.seat.__ray_ready__.remote(), timeout=60)
                time.sleep(0.1)

    at_object(patch, 3, removed)
    drawn_on(cluster, workspace)
    drawn: Counter[str] = pools[-1].drawn
    assert sum(drawn.values()) == OBJECTS and drawn[second.node_id] <= 4 and not cluster.worker_nodes


def test_what_is_wrong_with_a_node_ends_the_run_with_its_kind_and_remedy(cluster: Any) -> None:
    config = RECIPE.dataset
    order = DrawingOrder(*camera_set(config.cameras), config.resolution, 1, "rig", 1e-4, config.limits)
    (mesh, *_) = list_objects(config)
    task = ObjectTask("00000", replace(mesh, load=("no such kind", {})), "train")  # no mesh is at fault for that
    with RayPool(order, 1, cluster.address, Talk(0)) as pool:
        with pytest.raises(RecipeError, match=r"^drawing on \S+ failed: unknown collection kind 'no such") as caught:
            list(pool.run([task]))
    assert caught.value.hint.startswith("Known: parametric")
