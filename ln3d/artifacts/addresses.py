"""Files at fsspec addresses, such as s3://bucket/folder or zip://folder::https://host/shards.zip: read and listed."""

import os
import re
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ln3d.errors import ArtifactError, LN3DError, RecipeError

_PAUSES_S = (1.0, 4.0)  # before a reading that failed is tried again: a training outlives a hiccup of the network
_FINAL = {
    PermissionError: "check the keys; docs/data.md says where they are looked for",
    NotImplementedError: "this protocol cannot do that: copy the folder to this machine or to another address",
}
"""What helps where trying again changes nothing."""
_HICCUP = "see that it can be reached, then run the same command again: it goes on where it stopped"
_CHAINED = re.compile(r"[a-z0-9+_-]+::")


def is_address(place: str) -> bool:
    """Return whether `place` is meant for fsspec, and no path of this machine."""
    return "://" in place or _CHAINED.match(place) is not None


def joined(address: str, name: str) -> str:
    """Return the address of the file `name` in the folder `address`; of a chain, the first link with a path has it."""
    links = address.split("::")
    place = next((i for i, link in enumerate(links) if "://" in link), len(links) - 1)
    links[place] += name if links[place].endswith("/") else f"/{name}"
    return "::".join(links)


def read_bytes(address: str, name: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes from `start` to before `stop` of the file `name` in the folder `address`.

    A reading that fails is tried twice more. Raises ArtifactError where the file is not there or cannot be read,
    RecipeError for an unknown protocol and for one whose package is not installed.
    """
    for pause in (*_PAUSES_S, None):
        try:
            return _bytes(address, name, start, stop)
        except FileNotFoundError:
            raise ArtifactError(
                f"{joined(address, name)} is missing: no artifact, or not all of it is there",
                "check the address; copy the whole folder there, manifest.json last",
            ) from None
        except LN3DError:
            raise
        except Exception as error:  # every protocol has errors of its own
            remedy = next((hint for kind, hint in _FINAL.items() if isinstance(error, kind)), None)
            if pause is None or remedy is not None:
                raise ArtifactError(
                    f"{joined(address, name)} cannot be read ({_said(error)})", remedy or _HICCUP
                ) from error
            time.sleep(pause)
    raise AssertionError("the last pause is none")


def listed(address: str, depth: int) -> dict[str, int | None]:
    """Return the sizes of the files in a folder and `depth - 1` folders deep, by name; {} where it cannot be listed.

    Not every protocol and not everybody may list. A size is None where the listing does not tell it, as on the web.
    """
    files, root = _file_system(address)
    with suppress(Exception):
        with suppress(Exception):
            files.invalidate_cache()
        found = files.find(root, maxdepth=depth, detail=True)
        return {path.removeprefix(root).lstrip("/"): entry.get("size") for path, entry in found.items()}
    return {}


def exists(address: str, name: str) -> bool:
    """Return whether there is a file `name` in the folder `address`; True where that cannot be told."""
    files, root = _file_system(address)
    with suppress(Exception):
        return bool(files.exists(f"{root}/{name}"))
    return True


def _bytes(address: str, name: str, start: int, stop: int | None) -> bytes:
    files, root = _file_system(address)
    if start == 0 and stop is None:  # not all servers know of ranges
        return bytes(files.cat_file(f"{root}/{name}"))
    return bytes(files.cat_file(f"{root}/{name}", start=start, end=stop))


def _file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path of the folder in it. Raises RecipeError, ArtifactError.

    A process has its own: connections and open archives do not survive a fork.
    """
    return _connected(address, os.getpid())


@lru_cache(maxsize=16)
def _connected(address: str, process: int) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(address)
    except ImportError as error:
        package = getattr(error.__cause__ or error, "name", None)
        hint = f"pip install {package}" if package else "install the package that it names"
        raise RecipeError(f"{address} needs a package: {_said(error)}", hint) from None
    except ValueError as error:
        raise RecipeError(f"{address}: {_said(error)}", "fsspec's documentation lists its protocols") from None
    except Exception as error:
        raise ArtifactError(f"{address} cannot be opened ({_said(error)})", "check the address and the keys") from error
    return files, str(root).rstrip("/")


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
