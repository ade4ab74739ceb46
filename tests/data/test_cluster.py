"""Drawing on a cluster without one: what is begun again, what ends the run, and that little is under way at once."""

import importlib.machinery
import subprocess
import sys
import types
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ln3d.config.render import LimitsConfig
from ln3d.data import cluster, cluster_seat
from ln3d.data.cluster import RayPool
from ln3d.data.cluster_seat import Drawn, Needs, Node, drawing_versions
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.drawing import DrawingOrder, ObjectTask
from ln3d.data.engines import engine
from ln3d.errors import LN3DError, RecipeError
from ln3d.talk import Talk

CAMERAS = np.eye(4, dtype=np.float32)[None], np.eye(3, dtype=np.float32)[None]
ORDER = DrawingOrder(*CAMERAS, 8, 1, "rig", 1e-4, LimitsConfig())
NEEDS = Needs("embree")


class RayError(Exception):
    """The names that the pool catches."""


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__("a traceback\nof many lines")
        self.cause = cause


class ActorDiedError(RayError):
    pass


@dataclass
class Actor:
    """A handle: `actor.method.remote(...)` returns a reference, which is worked out when it is asked for."""

    ray: "FakeRay"
    number: int
    dead: bool = False

    def __getattr__(self, method):
        return types.SimpleNamespace(remote=lambda *arguments: Reference(self, method, arguments))


@dataclass(eq=False)
class Reference:
    actor: Actor
    method: str
    arguments: tuple


@dataclass
class FakeRay(types.ModuleType):
    """Stands in for the module `ray`, with two nodes whose actors do what `begin` and `draw` say."""

    actors: list = field(default_factory=list)
    under_way: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    free: bool = True
    started: bool = False
    begin: object = None
    draw: object = None

    def __post_init__(self):
        super().__init__("ray")
        self.__spec__ = importlib.machinery.ModuleSpec("ray", None)
        self.exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def remote(self, **options):
        assert options["num_cpus"] == 1 and options["max_restarts"] == 0
        return lambda seat: types.SimpleNamespace(remote=self._actor)

    def _actor(self, order):
        self.actors.append(Actor(self, len(self.actors)))
        return self.actors[-1]

    def init(self, **options):
        self.calls.append(("init", options["address"]))
        if options["address"] == "nowhere:1":
            raise ConnectionError("first\nno cluster\n there ")

    def is_initialized(self):
        return self.started

    def cluster_resources(self):
        return {"CPU": 3.0}

    def wait(self, references, timeout):
        self.under_way.append(len(references))
        return (references[:1] if self.free else []), []

    def get(self, reference):
        actor = reference.actor
        if actor.dead:
            raise ActorDiedError("it died\n  of something  ")
        if reference.method == "awake":
            self.calls.append(("awake", actor.number))
            return None
        return (self.begin or here)(actor) if reference.method == "begin" else self.draw(actor, *reference.arguments)

    def kill(self, actor):
        actor.dead = True
        self.calls.append(("kill", actor.number))

    def shutdown(self):
        self.calls.append("shutdown")


def here(actor, **changes):
    return replace(Node(f"node-{actor.number % 2}", f"host{actor.number % 2}", drawing_versions(NEEDS)), **changes)


def drawn(actor, task, source):
    return Drawn(task.key.encode())


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay(draw=drawn)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def tasks(count=7, load=("parametric", {})):
    entries = (CatalogueEntry(f"a/{n}", "s", "n", "c", (), "l", "a", load) for n in range(count))
    return [ObjectTask(f"{n:05d}", entry, "train") for n, entry in enumerate(entries)]


def outcomes(given, workers=2, address="auto"):
    with RayPool(ORDER, workers, address, Talk(0)) as pool:
        found = {outcome.task.key: (outcome.result, outcome.reason) for outcome in pool.run(given)}
    return found, pool.drawn


WHOLE = {task.key: (task.key.encode(), "") for task in tasks()}


def test_every_task_has_one_outcome_and_little_is_under_way(ray):
    found, drawn = outcomes(tasks())
    assert found == WHOLE and max(ray.under_way) == 2
    assert drawn == Counter({"node-0": 4, "node-1": 3})
    assert ray.calls == [("init", "auto"), ("kill", 0), ("kill", 1), "shutdown"] or ray.calls == [
        *[("init", "auto"), ("kill", 1), ("kill", 0)],
        "shutdown",
    ]


@pytest.mark.parametrize(("workers", "places"), [(None, 3), (2, 2), (99, 7)])
def test_there_are_as_many_places_as_asked_for_or_cores_or_tasks(ray, workers, places):
    outcomes(tasks(), workers)
    assert len(ray.actors) == places


def test_nothing_to_draw_needs_no_cluster_and_another_program_s_connection_is_kept(ray):
    assert outcomes([]) == ({}, Counter()) and not ray.calls
    ray.started = True
    assert outcomes(tasks())[0] == WHOLE
    assert {call[0] for call in ray.calls} == {"kill"}


@pytest.mark.parametrize("victim", [0, 1])
def test_what_is_lost_with_a_place_is_begun_again_elsewhere(ray, victim):
    begun = Counter()

    def draw(actor, task, source):
        begun[task.key] += 1
        if actor.number == victim and sum(begun.values()) > 2:
            ray.kill(actor)
            raise ActorDiedError("its node went down")
        return drawn(actor, task, source)

    ray.draw = draw
    assert outcomes(tasks())[0] == WHOLE
    assert sorted(begun.values()) == [1] * 6 + [2] and len(ray.actors) == 3


def test_the_last_task_goes_to_a_place_that_waits(ray):
    def draw(actor, task, source):
        if actor.number == 1:
            raise ActorDiedError("gone")
        return drawn(actor, task, source)

    ray.draw = draw
    assert outcomes(tasks(2))[0] == {key: WHOLE[key] for key in ("00000", "00001")}
    assert len(ray.actors) == 2


def test_what_loses_every_node_ends_the_run_and_is_no_rejection(ray):
    begun = Counter()

    def draw(actor, task, source):
        begun[task.key] += 1
        if task.key == "00003":
            raise ActorDiedError("first line\nout of memory")
        return drawn(actor, task, source)

    ray.draw = draw
    with pytest.raises(LN3DError, match=r"^a/3 was lost with its node 3 times, the last time on host\d: out of memory"):
        outcomes(tasks())
    assert begun["00003"] == 3 and all(actor.dead for actor in ray.actors) and ray.calls[-1] == "shutdown"


@pytest.mark.parametrize("failures", [2, 3])
def test_places_that_do_not_start(ray, failures):
    def begin(actor):
        if actor.number < failures:
            raise ActorDiedError("Traceback\nNo module named 'ln3d'")
        return here(actor)

    ray.begin = begin
    if failures == 2:
        assert outcomes(tasks(), 1)[0] == WHOLE
    else:
        with pytest.raises(LN3DError, match="do not start on the Ray cluster: No module named 'ln3d'$"):
            outcomes(tasks(), 1)


def test_places_that_fail_to_start_together_are_one_failure(ray):
    def begin(actor):
        if actor.number < 6:  # twice three at once: a node takes all its places with it
            raise ActorDiedError("its node went down")
        return here(actor)

    ray.begin = begin
    assert outcomes(tasks(), 3)[0] == WHOLE
    assert len(ray.actors) == 9
    ray.begin = lambda actor: begin(replace(actor, number=0))
    ray.actors.clear()
    with pytest.raises(LN3DError, match="do not start on the Ray cluster: its node went down$"):
        outcomes(tasks(), 3)
    assert len(ray.actors) <= 9


def test_idle_places_that_are_lost_are_no_failed_starts_and_cost_no_task(ray):
    begun, idle = Counter(), 5

    def draw(actor, task, source):
        begun[task.key] += 1
        if actor.number == idle and begun[task.key] == 1:  # the last to draw: meanwhile all others are lost
            for other in ray.actors[:idle]:
                other.dead = True
            raise ActorDiedError("gone too")
        return drawn(actor, task, source)

    ray.draw = draw
    given = tasks(idle + 1)
    assert outcomes(given, idle + 1)[0] == {task.key: WHOLE[task.key] for task in given}
    assert sorted(begun.values()) == [1] * idle + [2]
    assert len(ray.actors) == idle + 2 and not [call for call in ray.calls if call[0] == "awake"]


def test_an_idle_place_that_is_there_takes_the_lost_task(ray):
    def draw(actor, task, source):
        if actor.number == 2:
            ray.actors[1].dead = True
            raise ActorDiedError("gone")
        return drawn(actor, task, source)

    ray.draw = draw
    assert len(outcomes(tasks(3), 3)[0]) == 3
    assert len(ray.actors) == 3 and ("awake", 0) in ray.calls


def test_a_cluster_without_a_free_core(ray):
    ray.free = False
    with pytest.raises(LN3DError, match="no node of the Ray cluster had a core to spare for 600 s"):
        outcomes(tasks())


def test_a_node_that_does_not_see_the_meshes_ends_the_run(ray, tmp_path):
    (tmp_path / "a.obj").write_text("")
    told = []

    def draw(actor, task, source):
        told.append(source)
        return Drawn(None, unseen=bool(source))

    ray.draw = draw
    with pytest.raises(LN3DError, match=f"host0 does not see {tmp_path}/a.obj") as error:
        outcomes(tasks(1, ("folder", {"root": str(tmp_path), "path": "a.obj"})))
    assert "same path on every node" in error.value.hint and told == [f"{tmp_path}/a.obj"]
    missing = tasks(1, ("folder", {"root": str(tmp_path), "path": "b.obj"}))
    assert outcomes(missing)[0] == {"00000": (None, "")} and told[1:] == [""]


def test_a_node_that_would_draw_otherwise_ends_the_run(ray):
    ray.begin = lambda actor: here(actor, versions={**drawing_versions(NEEDS), "numpy": "1.0"})
    with pytest.raises(LN3DError, match=r"host0 would draw other bytes: it has numpy 1\.0 \(here ") as error:
        outcomes(tasks())
    assert "same versions" in error.value.hint
    ray.begin = lambda actor: here(actor, problem="dataset.renderer: gl needs moderngl", hint="Install it.")
    with pytest.raises(RecipeError, match="^host0: dataset.renderer: gl needs moderngl") as error:
        outcomes(tasks())
    assert error.value.hint == "Install it."


@pytest.mark.parametrize(
    ("cause", "kind", "message", "hint"),
    [
        (LN3DError("do not start", "Look."), LN3DError, "drawing on host0 failed: do not start", "Look."),
        (RecipeError("no gl", "Install it."), RecipeError, "drawing on host0 failed: no gl", "Install it."),
        (KeyError("a\nb"), LN3DError, "drawing on host0 failed: 'a\\nb'", "run the same command again"),
    ],
)
def test_what_is_wrong_with_a_node_ends_the_run_at_once(ray, cause, kind, message, hint):
    tried = []

    def draw(actor, task, source):
        tried.append(task)
        raise RayTaskError(cause)

    ray.draw = draw
    with pytest.raises(LN3DError) as caught:
        outcomes(tasks())
    assert type(caught.value) is kind and caught.value.message == message and caught.value.hint.startswith(hint)
    assert len(tried) == 1 and ray.calls[-1] == "shutdown"


@pytest.mark.parametrize("theirs", ["5.0.0", None])
def test_what_the_renderer_draws_with_has_to_be_the_same_everywhere(ray, monkeypatch, theirs):
    monkeypatch.setattr(cluster_seat, "check_renderer", lambda name: {"Blender": "5.0.1"})
    order = replace(ORDER, renderer="blender")
    message = rf"^host0 would draw other bytes: it has Blender {theirs or 'none'} \(here 5\.0\.1\)$"

    def begin(actor):
        found = drawing_versions(Needs("blender")) | {"Blender": theirs}
        return here(actor, versions={name: number for name, number in found.items() if number})

    ray.begin = begin
    with RayPool(order, 2, "auto", Talk(0)) as pool:
        with pytest.raises(LN3DError, match=message):
            list(pool.run(tasks()))
    pictures = tasks(load=("nerf", {}))
    ray.begin = lambda actor: here(actor, versions=drawing_versions(Needs()))
    with RayPool(order, 2, "auto", Talk(0)) as pool:
        assert len(list(pool.run(pictures))) == len(pictures)


def test_a_cluster_that_fails_or_is_not_there(ray):
    with pytest.raises(RecipeError, match="--ray nowhere:1: there") as error:
        outcomes(tasks(), address="nowhere:1")
    assert "ray start --head" in error.value.hint

    def wait(references, timeout):
        raise RayError("the head is gone")

    ray.wait = wait
    with pytest.raises(LN3DError, match="the Ray cluster failed: the head is gone"):
        outcomes(tasks())
    assert ray.calls[-1] == "shutdown"


def test_a_machine_without_ray(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="needs the package ray") as error:
        engine(ORDER, 1, "auto", Talk(0))
    assert "ln3d[ray]" in error.value.hint


def test_ray_is_imported_only_when_it_is_asked_for():
    code = "import sys, ln3d.stages.render_dataset; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
