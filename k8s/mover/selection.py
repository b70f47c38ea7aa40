"""Which files of a repository are staged: fnmatch globs in which `*` crosses `/`, exclude wins."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

DEFAULT_EXCLUDE = ("original/*",)
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")


def effective_exclude(exclude: tuple[str, ...] | None, paths: Sequence[str]) -> tuple[str, ...]:
    """The globs as asked for; unset, `original/*` where there are weights outside it.

    `original/` usually holds a second copy of the weights that no server reads; where it holds the only one, it stays.
    """
    if exclude is not None:
        return exclude
    outside = [path for path in paths if not _matches(path, DEFAULT_EXCLUDE)]
    has_weights = any(path.endswith(WEIGHTS) for path in outside)
    return DEFAULT_EXCLUDE if has_weights and len(outside) < len(paths) else ()


def is_selected(path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Whether the filter takes this path; no include glob means all."""
    return (not include or _matches(path, include)) and not _matches(path, exclude)


def as_flags(include: tuple[str, ...], exclude: tuple[str, ...]) -> str:
    """A filter in words, as the scripts' flags have it."""
    flags = [*(f"--include {glob}" for glob in include), *(f"--exclude {glob}" for glob in exclude)]
    return " ".join(flags) if flags else "no filter"


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, glob) for glob in globs)
