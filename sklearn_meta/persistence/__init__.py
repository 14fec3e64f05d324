"""Models as files that hold data alone: loading one runs no code from it."""

from sklearn_meta.persistence._model import (
    get_untrusted_types,
    load_model,
    save_model,
)

__all__ = ["get_untrusted_types", "load_model", "save_model"]
