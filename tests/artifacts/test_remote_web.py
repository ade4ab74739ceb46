"""Artifacts on a web server, a real one on this machine: with and without ranges, moved, locked, gone."""

import http.server
import multiprocessing
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts import addresses
from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.remote import RemoteArtifact, open_at
from ln3d.errors import ArtifactError

pytest.importorskip("aiohttp", reason="fsspec reads the web with aiohttp")


@dataclass
class Web:
    """What the server does, and what it was asked for: path, range, bytes sent."""

    address: str = ""
    ranges: bool = True
    troubles: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, int]] = field(default_factory=list)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's server of folders, with ranges."""

    protocol_version = "HTTP/1.1"

    def __init__(self, web: Web, *arguments: Any, **options: Any) -> None:
        self.web = web
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        if self.web.troubles:
            self.send_error(self.web.troubles.pop())
            return
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range", "")
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted) if self.web.ranges else None
        if not path.is_file() or found is None:
            self.web.asked.append((self.path, wanted, path.stat().st_size if path.is_file() else 0))
            super().do_GET()
            return
        data = path.read_bytes()[int(found[1]) : int(found[2]) + 1]
        self.web.asked.append((self.path, wanted, len(data)))
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with publish(tmp_path / "served" / "vae", "vae", recipe={"name": "tiny", "seed": 1}) as scratch:
        (scratch / "weights.bin").write_bytes(bytes(range(256)) * 400)
        (scratch / "metrics.jsonl").write_text("{}\n")
    return tmp_path / "served" / "vae"


@pytest.fixture
def web(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(addresses, "_PAUSES_S", (0.0, 0.0))
    web = Web()
    handler = partial(Handler, web, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        web.address = f"http://127.0.0.1:{server.server_address[1]}/vae"
        yield web
        addresses._connected.cache_clear()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("end", ["", "/"])
def test_it_is_the_same_artifact_and_pieces_are_pieces(folder: Path, web: Web, end: str) -> None:
    here, there = open_artifact(folder), open_at(web.address + end, "vae")
    assert isinstance(there, RemoteArtifact) and there.id == here.id
    for name in here.manifest.files:
        assert there.verified(name) == here.verified(name)
    web.asked.clear()
    whole = (folder / "weights.bin").read_bytes()
    assert there.read("weights.bin", 1000, 1010) == whole[1000:1010]
    assert web.asked == [("/vae/weights.bin", "bytes=1000-1009", 10)]


def test_a_server_without_pieces_is_said_and_a_cache_helps(folder: Path, web: Web) -> None:
    web.ranges = False
    there = open_at(web.address, "vae")
    assert isinstance(there, RemoteArtifact)
    with pytest.raises(ArtifactError, match=r"weights\.bin: the server sends whole files") as caught:
        there.read("weights.bin", 1000, 1010)
    assert "simplecache::" in caught.value.hint
    cached = open_at(f"simplecache::{web.address}", "vae")
    assert isinstance(cached, RemoteArtifact)
    web.asked.clear()
    for start in range(0, 5000, 1000):
        assert cached.read("weights.bin", start, start + 5) == (folder / "weights.bin").read_bytes()[start : start + 5]
    assert len(web.asked) <= 2  # not five: fsspec looks whether it is a folder, then fetches


def test_missing_files_and_a_missing_server_are_said(folder: Path, web: Web) -> None:
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(ArtifactError, match=rf"^{web.address}/metrics\.jsonl is missing$"):
        open_at(web.address, "vae")
    with pytest.raises(ArtifactError, match=r"none/manifest\.json is missing"):
        open_at(web.address.replace("vae", "none"), "vae")
    with pytest.raises(ArtifactError, match=r"^http://127\.0\.0\.1:9/vae/manifest\.json cannot be read \(.+\)$"):
        open_at("http://127.0.0.1:9/vae", "vae")


def test_a_busy_server_is_asked_again(folder: Path, web: Web) -> None:
    there = open_at(web.address, "vae")
    web.troubles = [503, 503]
    assert there.verified("metrics.jsonl") == b"{}\n"
    web.troubles = [503] * 3
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl cannot be read \(503"):
        there.verified("metrics.jsonl")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_on(folder: Path, web: Web, method: str) -> None:
    """With a connection open here: it belongs to a thread, which a fork leaves behind."""
    there = open_at(web.address, "vae")
    assert isinstance(there, RemoteArtifact)
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(there.read, ("weights.bin", 1000, 1010)).get(timeout=600)
    assert found == (folder / "weights.bin").read_bytes()[1000:1010]
    assert web.asked[-1] == ("/vae/weights.bin", "bytes=1000-1009", 10)
