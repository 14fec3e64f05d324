"""Checkpoint files: written whole or not at all, and found again by the same fit."""

import hashlib
import io
import json
import os
import pickle
import secrets
import uuid
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sklearn_meta.exceptions import warn_user

FORMAT_VERSION = 2
SUFFIX = ".checkpoint"


class Checkpoint(NamedTuple):
    """Where a fit keeps its checkpoints, and how often it writes one.

    An estimator takes it as ``checkpoint=``; a plain path means the defaults here. A
    fit that was killed and is started again with the same parameters and data goes on
    from the last checkpoint and ends with the same weights, to the last bit, as one
    that was never stopped.

    Parameters
    ----------
    directory : str or path-like
        The directory; it is made if it is not there.
    seconds : float, default=60.0
        Least time between two checkpoints, in seconds, >= 0. One is written between
        two stretches of at most 50 outer steps.
    shared : bool, default=False
        Whether other fits write to the directory too, as in a search or in
        cross-validation. Without it the checkpoint of another fit is an error.
    keep : bool, default=False
        Whether the file of a fit that is done stays. The same fit then returns at once
        with the same weights: with ``shared``, a search that was killed does not train
        again what it had trained.

    Notes
    -----
    A file is written beside its place, flushed to disk and then moved there, so a kill
    or a loss of power leaves the last complete one. It holds weights, the best weights
    so far, the state of the optimizer and of the random numbers, the losses and the
    history; no code, and no data of the tasks. Callbacks of the user start anew. When
    ``fit`` is done, its file is removed unless ``keep`` says otherwise; after a
    KeyboardInterrupt it stays.

    The name of a file is a fingerprint of the estimator's parameters and of the data.
    Not part of it are ``verbose``, ``callbacks``, ``device`` and ``n_jobs``. A
    ``pooled_estimator`` is fitted again when a fit goes on.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_meta import Checkpoint, MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=6, random_state=0)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoint = Checkpoint(directory, seconds=30)
    ...     model = MAMLRegressor(checkpoint=checkpoint, max_iter=20, random_state=0)
    ...     model.fit(tasks).n_iter_
    20
    """

    directory: Any
    seconds: float = 60.0
    shared: bool = False
    keep: bool = False


def as_checkpoint(place: Any) -> Checkpoint:
    """Return a `Checkpoint`; a plain path is one with the defaults."""
    return place if isinstance(place, Checkpoint) else Checkpoint(place)


class CheckpointFile:
    """The file of one fit.

    Parameters
    ----------
    checkpoint : Checkpoint, str or path-like
        Where it is.
    fit : dict of str
        What identifies the fit: names and descriptions of parameters and data.
    is_owner : bool, default=True
        Whether this process reads and writes the file; of several, one does.

    Attributes
    ----------
    state : dict or None
        What an earlier run of the same fit left, or None.
    seed : int
        Drawn by the first run, for a fit that has no seed of its own.
    keep : bool
        Whether the file stays when the fit is done.

    Raises
    ------
    ValueError
        If the directory holds another fit's checkpoint, or one that cannot be read.
    """

    def __init__(
        self, checkpoint: Any, fit: dict[str, str], is_owner: bool = True
    ) -> None:
        checkpoint = as_checkpoint(checkpoint)
        self.seconds, self._fit = _check_seconds(checkpoint.seconds), fit
        self.keep = checkpoint.keep
        self.is_owner = is_owner
        directory = _make_directory(checkpoint.directory)
        digest = hashlib.sha256(json.dumps(fit, sort_keys=True).encode()).hexdigest()
        self.path = directory / f"{fit['estimator']}-{digest[:16]}{SUFFIX}"
        self.state: dict | None = None
        self.seed = secrets.randbits(31)
        if not is_owner:
            return
        if self.path.exists():
            stored = _read(self.path)
            self.state, self.seed = stored["state"], stored["seed"]
        elif not checkpoint.shared:
            self._check_alone()

    def write(self, state: dict) -> None:
        """Replace the file by a newer one, which is complete at any moment."""
        content = {"version": FORMAT_VERSION, "fit": self._fit, "seed": self.seed}
        data = _as_bytes(content | {"state": state})
        temporary = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def write_or_warn(self, state: dict) -> None:
        """Write, or warn where the disk fails: that is no reason to end a fit."""
        try:
            self.write(state)
        except OSError as error:
            warn_user(
                f"The checkpoint {str(self.path)!r} could not be written: {error}. The "
                "fit goes on without it; make room on the disk.",
                UserWarning,
            )

    def finish(self) -> None:
        """Remove the file, and what a kill in the middle of writing left of it."""
        if self.keep or not self.is_owner:
            return
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)

    def _check_alone(self) -> None:
        """Raise if the directory holds the checkpoint of another fit."""
        others = sorted(self.path.parent.glob(f"*{SUFFIX}"))
        if not others:
            return
        found = _read(others[0])["fit"]
        names = sorted(found.keys() | self._fit.keys())
        differences = [
            f"{name}={_short(self._fit.get(name))} here and {_short(found.get(name))} "
            "there"
            for name in names
            if found.get(name) != self._fit.get(name)
        ]
        raise ValueError(
            f"Expected the checkpoint of this fit in {str(self.path.parent)!r}, got "
            f"that of another, {others[0].name!r}: {'; '.join(differences)}. To go on "
            "with that fit, give it the same parameters and data. To start this one, "
            "use another directory or remove the file. Where several fits share a "
            "directory, as in a search, use Checkpoint(directory, shared=True)."
        )


def _as_bytes(content: dict) -> bytes:
    """Return the bytes of a file that can be read back without running code."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        # an error now is better than one after the kill
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            "Expected tensors and plain values in the state of the optimizer and of "
            "the module, got what a checkpoint cannot hold. Fit with an optimizer of "
            "torch, or without a checkpoint."
        ) from error
    return _sealed(buffer.getvalue())


def _sealed(data: bytes) -> bytes:
    """Return bytes behind their checksum: torch would not notice altered weights."""
    return hashlib.sha256(data).digest() + data


def _unsealed(sealed: bytes) -> bytes:
    """Return the bytes behind a checksum that fits them."""
    n_bytes = hashlib.sha256().digest_size
    if hashlib.sha256(sealed[n_bytes:]).digest() != sealed[:n_bytes]:
        raise ValueError("the checksum differs")
    return sealed[n_bytes:]


def _read(path: Path) -> dict:
    """Read a file of `CheckpointFile.write`, without running code from it."""
    try:
        data = _unsealed(path.read_bytes())
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        version = content["version"]
    except Exception as error:  # of other bytes, reading may raise anything
        raise ValueError(
            # not torch's own message: it advises to load the file with its code
            f"{str(path)!r} is no checkpoint, or was truncated or altered "
            f"({type(error).__name__}). Remove it to start the fit anew."
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"The checkpoint {str(path)!r} has format version {version!r}, expected "
            f"{FORMAT_VERSION}. Use the version of sklearn_meta that wrote it, or "
            "remove it to start the fit anew."
        )
    return content


def _check_seconds(seconds: Any) -> float:
    """Return the time between checkpoints."""
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, Real)
        or not float(seconds) >= 0
    ):
        raise ValueError(
            f"Expected the seconds of a Checkpoint as a number >= 0, got {seconds!r}."
        )
    return float(seconds)


def _make_directory(directory: Any) -> Path:
    """Make the directory where it is not there."""
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"Expected checkpoint to be a directory, got {str(path)!r}: {error}. Give "
            "one that is there, or that can be made."
        ) from error
    return path


def _short(text: str | None) -> str:
    """Return a description that fits into a message."""
    return "nothing" if text is None else text if len(text) < 60 else f"{text[:57]}..."
