"""The file of a model: a zip whose parts are listed with their checksums."""

import hashlib
import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = "sklearn_meta model"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"

# what zipfile raises, the last two where a flag of an entry was altered
DAMAGE = (
    zipfile.BadZipFile,
    json.JSONDecodeError,
    UnicodeDecodeError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


def write_parts(path: Any, parts: dict[str, bytes]) -> None:
    """Write the parts to one file, which is complete or is not there at all."""
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "checksums": {name: _checksum(part) for name, part in parts.items()},
    }
    path = Path(path)
    # not by tempfile, whose files no other user may read
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(temporary, "x") as file:
            file.writestr(MANIFEST, json.dumps(manifest))
            for name, part in parts.items():
                file.writestr(name, part)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_parts(path: Any) -> dict[str, bytes]:
    """Read the parts of a file and check that they are what was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model file, is truncated or altered, or is of a newer format.
    """
    with open(path, "rb") as stream:
        try:
            manifest, parts = _read_zip(stream, path)
        except DAMAGE as error:
            raise ValueError(
                f"{os.fspath(path)!r} is no model file or was truncated or altered: "
                f"{error}. Save the model again with save_model."
            ) from error
    missing = set(manifest["checksums"]) - set(parts)
    altered = [n for n, p in parts.items() if _checksum(p) != manifest["checksums"][n]]
    if missing or altered:
        raise ValueError(
            f"{os.fspath(path)!r} was altered after it was written: parts "
            f"{sorted([*missing, *altered])} are missing or differ from their checksum."
            " Save the model again with save_model."
        )
    return parts


def _read_zip(stream: BinaryIO, path: Any) -> tuple[dict, dict[str, bytes]]:
    """Return the manifest of a file and those of its parts that are there."""
    with zipfile.ZipFile(stream) as file:
        names = set(file.namelist())
        manifest = json.loads(file.read(MANIFEST)) if MANIFEST in names else {}
        _check_format(manifest, path)
        found = names.intersection(manifest["checksums"])
        return manifest, {name: file.read(name) for name in found}


def _check_format(manifest: Any, path: Any) -> None:
    """Raise if a manifest is not one that this version can read."""
    known = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    if not known or "checksums" not in manifest:
        raise ValueError(
            f"{os.fspath(path)!r} is no model file or was truncated or altered: it has "
            "no manifest of save_model. Save the model again with save_model."
        )
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} has format version {version!r}, and this version of "
            f"sklearn_meta reads version {FORMAT_VERSION}. Upgrade sklearn_meta to "
            "read a newer file."
        )


def _checksum(part: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(part).hexdigest()
