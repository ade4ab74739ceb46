"""Broken and hostile meshes, rendered by the real command: each a rejection with its reason, no more."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from broken_archives import ACTORS, PACKED, write_archive, write_game
from broken_meshes import CORPUS, GOOD, write, write_folder

from ln3d.artifacts.workspace import Workspace
from ln3d.data.shards import ShardSet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are the kernel's")

# Small caps, so that little files are too much.
LIMITS = {
    "seconds": 4,
    "vertices": 60_000,
    "faces": 50_000,
    "texture_pixels": 4_000_000,
    "file_bytes": 4_000_000,
    "archive_bytes": 7_000_000,
    "memory_bytes": 1_000_000_000,
}

# In every process of the command: write down who opens what of the corpus' surroundings, who goes online or starts a
# program, and with how much processor time behind it a process opens which mesh.
WATCH = """
import os, sys, time

flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
log, clock = (os.open(os.environ[name], flags) for name in ("WATCH_LOG", "WATCH_CLOCK"))
watched, meshes = tuple(os.environ["WATCHED"].split(":")), os.environ["WATCHED_MESHES"]
refused = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "os.system", "os.exec", "os.posix_spawn")

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(watched):
            os.write(log, f"{os.getpid()} {path}\\n".encode(errors="replace"))
        if path.startswith(meshes):
            os.write(clock, f"{os.getpid()} {time.process_time()} {path}\\n".encode(errors="replace"))
    elif event in (*refused, "subprocess.Popen"):
        os.write(log, f"{os.getpid()} {event} {arguments}\\n".encode(errors="replace"))

sys.addaudithook(watch)
"""

# A new process begins with the peak of the one that starts it, so the one that starts the command must be small.
WEIGH = """
import resource, subprocess, sys

code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def expected(root):
    """Return the reason of every rejection by the object's id."""
    reasons = {
        f"folder/{root.name}/{cause}/{name}": reason
        for cause, kinds in CORPUS.items()
        for name, (_, reason) in kinds.items()
    }
    reasons[f"folder/{root.name}/paths/linked.obj"] = "linked.obj: outside"
    reasons |= {f"sweethome3d/packed/{n:03d}": reason for n, (_, reason) in enumerate(PACKED.values())}
    reasons |= {f"0ad/fauna/{animal}/plain": reason for animal, (_, _, reason) in ACTORS.items()}
    return reasons


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, repository):
    """Render the whole corpus by the command in a process of its own; return the folder where all happened."""
    place = tmp_path_factory.mktemp("corpus")
    meshes, outside, watch = place / "meshes", place / "outside", place / "watch"
    write_folder(meshes, outside)
    (place / "archives").mkdir()
    write_archive(place / "archives/packed.sh3f")
    write_game(place / "game/public.zip", outside)
    write(watch / "sitecustomize.py", WATCH)
    folders = [("folder", meshes), ("sweethome3d", place / "archives"), ("0ad", place / "game")]
    dataset = {
        "collections": [{"kind": kind, "path": str(path)} for kind, path in folders],
        "cameras": {"views": 2},
        "resolution": 16,
        "limits": LIMITS,
    }
    write(place / "recipe.yaml", json.dumps({"name": "corpus", "dataset": dataset}))
    for path in outside.iterdir():
        os.utime(path, (1e9, 1.5e9))  # read before written to: where times of access are kept, a reading shows
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(watch), str(repository)]),
        "WATCH_LOG": str(watch / "log"),
        "WATCH_CLOCK": str(watch / "clock"),
        "WATCHED": ":".join([str(outside), "/dev/zero", "/etc/passwd", str(meshes / "good/box.glb")]),
        "WATCHED_MESHES": str(meshes),
    }
    memory = _render(place, environment, watch / "output")
    write(watch / "memory", str(memory))
    return place


def _render(place, environment, output):
    """Run the command; return the most memory, in bytes, that it or one of its workers occupied."""
    command = [sys.executable, "-m", "ln3d", "render-dataset", "recipe.yaml", "-w", "run", "--workers", "2"]
    weighed = [sys.executable, "-S", "-c", WEIGH, *command]
    with open(output, "w") as messages:
        run = subprocess.run(weighed, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True)
    assert run.returncode == 0, output.read_text()
    return 1024 * int(run.stdout.split()[-1])


def test_the_corpus_is_large_enough(rendered):
    """Of what the command rejected: over a hundred broken meshes, no two alike, of many causes and formats."""
    rejected = ShardSet(Workspace(rendered / "run").open("shards")).rejected
    ids = [rejection.source_id for rejection in rejected if rejection.source_id.startswith("folder/")]
    broken = [Path(name) for name in ids if not name.endswith("/linked.obj")]  # a link; its target is outside
    kinds = {(path.suffix, *CORPUS[path.parent.name][path.name]) for path in broken}
    assert len(kinds) == len(broken) > 100
    assert len({path.parent.name for path in broken}) >= 10
    assert len({reason for *_, reason in kinds}) >= 10
    assert len({path.suffix for path in broken}) >= 5


def test_every_broken_mesh_is_rejected_with_its_reason(rendered):
    shards = ShardSet(Workspace(rendered / "run").open("shards"))
    found = {rejection.source_id: rejection.reason for rejection in shards.rejected}
    wanted = expected(rendered / "meshes")
    assert found.keys() == wanted.keys()
    wrong = {name: found[name] for name in wanted if not re.search(wanted[name], found[name])}
    assert not wrong
    for reason in found.values():
        assert len(reason) <= 300 and reason.isprintable(), reason
        assert not re.match(r"\w*(Error|Exception|Warning): ", reason), reason


def test_the_good_meshes_beside_them_are_drawn(rendered):
    shards = ShardSet(Workspace(rendered / "run").open("shards", verify=True))
    drawn = {record.source_id for record in shards.objects}
    assert drawn == {*(f"folder/meshes/{name}" for name in GOOD), "0ad/fauna/giraffe/plain"}
    for record in shards.objects:
        assert all(shards.colour(record.index, view)[..., 3].any() for view in range(2))


def test_nothing_outside_is_touched_and_nothing_fetched(rendered):
    events = [line.split(" ", 1) for line in (rendered / "watch/log").read_text().splitlines()]
    watched = {process for process, event in events if event.endswith("good/box.glb")}
    assert len(watched) >= 2  # the command itself and a worker: the watch works
    assert {event for _, event in events} == {str(rendered / "meshes/good/box.glb")}
    for path in (rendered / "outside").iterdir():
        assert path.stat().st_atime == 1e9, f"{path.name} was read"
        assert path.stat().st_mtime == 1.5e9
    assert sorted(path.name for path in rendered.iterdir()) == sorted(
        ["archives", "game", "meshes", "outside", "recipe.yaml", "run", "watch"]
    )


def test_no_limit_is_overrun(rendered):
    """A process that goes on to its next mesh took no longer for the last one; the one that takes longer is stopped."""
    assert int((rendered / "watch/memory").read_text()) < LIMITS["memory_bytes"]
    clocks = {}
    for line in (rendered / "watch/clock").read_text().splitlines():
        process, seconds, _ = line.split(" ", 2)
        clocks.setdefault(process, []).append(float(seconds))
    steps = [later - sooner for seconds in clocks.values() for sooner, later in pairwise(seconds)]
    assert len(steps) > 100  # the clock runs
    assert max(steps) < LIMITS["seconds"] + 1
