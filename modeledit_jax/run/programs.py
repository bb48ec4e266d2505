"""Compiled programs that are kept on disk, so that a second run compiles nothing.

JAX writes and reads them itself (its persistent compilation cache). Here is what it leaves to its
users: a folder for each kind of processor, digests, and a bound on the size.
"""

import atexit
import hashlib
import json
import platform
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
from filelock import FileLock
from jax.experimental.compilation_cache import compilation_cache

from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.run.digest import file_digest
from modeledit_jax.run.files import atomic_write_text, check_writable

LIMIT = 2**30
"""Bytes of the programs of one kind of processor; beyond it those go that were not read longest."""

DIGESTS = "digests.json"
"""Of the file with the digest of every program, in the folder of the programs."""

_ENABLED = "jax_enable_compilation_cache"
_FOLDER = "jax_compilation_cache_dir"
_MIN_SECONDS = "jax_persistent_cache_min_compile_time_secs"


def keep_compiled_programs(cache_dir: str | Path | None = None) -> None:
    """Takes compiled programs from disk and leaves them there, until the process ends.

    For notebooks and programs of one's own; commands do it by themselves.

    Args:
      cache_dir: default: `default_cache_dir`.
    """
    stack = ExitStack()
    stack.enter_context(kept_programs(default_cache_dir() if cache_dir is None else cache_dir))
    atexit.register(stack.close)


@contextmanager
def kept_programs(cache_dir: str | Path) -> Iterator[None]:
    """Takes compiled programs from ``<cache_dir>/programs`` and leaves them there.

    A folder that JAX was given before (``JAX_COMPILATION_CACHE_DIR``) stays in use as it is; one
    that cannot be written costs nothing but the time to compile.
    """
    folder = Path(cache_dir).expanduser() / "programs" / processor()
    given = getattr(jax.config, _FOLDER) is not None
    if given or not getattr(jax.config, _ENABLED) or not _prepared(folder):
        yield
        return
    before = getattr(jax.config, _MIN_SECONDS)
    _use(str(folder), 0.0)  # hundreds of small programs take longer together than the large ones
    try:
        yield
    finally:
        _use(None, before)
        try:
            _write_digests(folder)
        except OSError as error:
            warnings.warn(f"the programs in {folder} are not listed ({error})", stacklevel=3)


def processor() -> str:
    """A name for what the processor can do.

    Programs hold its instructions: on another one of a cluster's they may end the process.
    """
    about = [platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8", errors="replace")
        for field in ("model name", "flags", "Features"):
            about += re.findall(rf"^{field}\s*:\s*(.*)$", text, re.MULTILINE)[:1]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def remove_damaged(folder: Path) -> list[str]:
    """Removes programs that are not what was written; they are compiled again.

    Returns:
      Their file names.
    """
    digests = _read_digests(folder)
    damaged = [path for path in _programs(folder) if not _is_whole(path, digests.get(path.name))]
    for path in damaged:
        path.unlink(missing_ok=True)
    if damaged:
        _write_digests(folder)  # those that are made again differ
    return [path.name for path in damaged]


def _prepared(folder: Path) -> bool:
    """Whether programs can be kept in a folder; damaged ones are removed from it."""
    try:
        check_writable(folder)
        damaged = remove_damaged(folder)
    except OSError:
        return False
    if damaged:
        warnings.warn(
            f"compiled programs in {folder} are damaged; made again: {len(damaged)}", stacklevel=4
        )
    return True


def _use(folder: str | None, min_seconds: float) -> None:
    jax.config.update(_FOLDER, folder)
    jax.config.update(_MIN_SECONDS, min_seconds)
    compilation_cache.reset_cache()  # JAX looks for a folder once, and it may have looked already


def _is_whole(path: Path, digest: str | None) -> bool:
    """Whether a program is what was written; one that a killed process left has no digest."""
    try:
        if digest is not None:
            return file_digest(path) == digest
        data = path.read_bytes()
    except FileNotFoundError:  # another process has removed it
        return True
    if data[:1] != b"\x78":  # of another compression, which JAX checks when it reads it
        return True
    try:
        zlib.decompress(data)
    except zlib.error:
        return False
    return True


def _write_digests(folder: Path) -> None:
    """Lists what is in a folder, less what is too much."""
    with FileLock(folder / ".lock"):
        _remove_oldest(folder)
        known = _read_digests(folder)
        digests = {}
        for path in _programs(folder):
            try:
                digests[path.name] = known.get(path.name) or file_digest(path)
            except FileNotFoundError:
                continue
        atomic_write_text(folder / DIGESTS, json.dumps(digests, indent=0))


def _remove_oldest(folder: Path, limit: int = LIMIT) -> None:
    about = sorted(((path.stat(), path) for path in _programs(folder)), key=lambda x: x[0].st_atime)
    size = sum(stat.st_size for stat, _ in about)
    for stat, path in about:
        if size <= limit:
            break
        path.unlink(missing_ok=True)
        size -= stat.st_size


def _read_digests(folder: Path) -> dict[str, str]:
    """Digests by file name; none where there are none, or they are damaged."""
    try:
        stored = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _programs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-cache"))
