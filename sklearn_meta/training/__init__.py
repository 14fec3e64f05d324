"""The outer loop: episodes in, trained learner out, on a skorch ``NeuralNet``."""

from sklearn_meta.training._checkpoint import Checkpoint, CheckpointFile, as_checkpoint
from sklearn_meta.training._device import one_thread, resolve_device, seeded
from sklearn_meta.training._graphs import CUDA_GRAPHS
from sklearn_meta.training._marginal import MarginalLikelihood
from sklearn_meta.training._outer_loop import OuterLoop, TrainingRecord
from sklearn_meta.training._processes import Processes
from sklearn_meta.training._stream import (
    MAX_CHUNK_STEPS,
    MIN_CHUNKS,
    EpisodeSampler,
    EpisodeStream,
    ValidationEpisodes,
)

__all__ = [
    "CUDA_GRAPHS",
    "MAX_CHUNK_STEPS",
    "MIN_CHUNKS",
    "Checkpoint",
    "CheckpointFile",
    "EpisodeSampler",
    "EpisodeStream",
    "MarginalLikelihood",
    "OuterLoop",
    "Processes",
    "TrainingRecord",
    "ValidationEpisodes",
    "as_checkpoint",
    "one_thread",
    "resolve_device",
    "seeded",
]
