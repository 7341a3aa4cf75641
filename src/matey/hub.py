"""Model folders to and from a hub: huggingface.co, or a folder that stands in for one (`file:`).

Only safetensors, JSON and the model card travel, in either direction. What is pulled is read as a
model before it gets its place.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import matey
from matey.errors import CheckpointError, ConfigError, MateyError
from matey.nn.adapters.stored import ADAPTER, adapter_record
from matey.nn.folder import BESIDE, CARD, find_model, load, load_yardstick
from matey.nn.tensors import load_tensors
from matey.output import replacing
from matey.records.files import read_json

LOCAL = "file:"
KINDS = (".safetensors", ".json")
LEFT = (".gitattributes", "LICENSE")  # which hubs add to models; never fetched
NAME = re.compile(r"\w[\w.-]*")
ON_HUB = re.compile(rf"{NAME.pattern}/{NAME.pattern}")


def push(model: str | Path, target: str, *, public: bool = False) -> str:
    """Send the model of a run or a model folder to `OWNER/NAME` on the hub, or to `file:FOLDER`;
    return where it is now.

    A model that the hub has not is made there, private unless `public`. Raises CheckpointError
    where the folder is no sound model, has other files or links, or the hub refuses; ConfigError
    for another target, or where huggingface_hub is missing.
    """
    folder = find_model(Path(model))
    names = names_in(folder)
    refuse_others(names, f"{folder}")
    if links := [name for name in names if (folder / name).is_symlink()]:
        raise CheckpointError(
            f"{folder} has links ({', '.join(links)}), which may lead to other files than a "
            "model's. Put the files themselves there."
        )
    check(folder, names)
    if (folder / ADAPTER).is_file() and (base := adapter_record(folder))["place"]:
        raise CheckpointError(
            f"{folder} is an adapter for the model {base['base']!r}, which would not go with it. "
            "Send both as one: matey.merge in Python writes them into a folder."
        )
    if local := folder_of(target):
        refuse_existing(local)
        with replacing(local, CheckpointError) as temporary:
            copy(folder, names, temporary)
        return str(local)
    api = interface(target)
    with answering(target):
        made = api.create_repo(target, private=not public, exist_ok=True)
        there = [one.rfilename for one in api.model_info(target).siblings or ()]
        refuse_others([name for name in there if name not in LEFT], target)
        api.upload_folder(
            repo_id=target,
            folder_path=folder,
            allow_patterns=names,
            delete_patterns=[f"*{kind}" for kind in KINDS],
            commit_message=f"Model folder of matey {matey.__version__}",
        )
    return str(made)


def pull(source: str, out: Path, revision: str | None = None) -> str:
    """Fetch a model folder from `OWNER/NAME` on the hub, or from `file:FOLDER`, into a new folder;
    return what it is, with the hub's commit.

    Raises CheckpointError where `out` exists, the source has files of other kinds, is no sound
    model or does not answer; ConfigError for another source, or where huggingface_hub is missing.
    """
    refuse_existing(out)
    with tempfile.TemporaryDirectory(prefix="matey-pull-") as folder:
        fetched = Path(folder)
        if local := folder_of(source):
            if revision is not None:
                raise ConfigError(f"{source} is a folder and has no --revision. Leave it out.")
            names, said = names_in(local), f"{local}"
            refuse_others(names, source)
            copy(local, names, fetched)
        else:
            names, commit = fetch(source, fetched, revision)
            said = f"{source}, commit {commit}"
        try:
            check(fetched, names)
        except MateyError as error:
            raise CheckpointError(
                f"{source} is no sound model: {str(error).replace(folder, source)}"
            ) from error
        with replacing(out, CheckpointError) as temporary:
            copy(fetched, names, temporary)
    return said


def fetch(source: str, folder: Path, revision: str | None) -> tuple[list[str], str]:
    """Fetch the files of a model on the hub into an empty folder; their names, and the commit.

    What there is, and how much, is asked first: other kinds of files, and more bytes than are free,
    are refused before any is fetched.
    """
    api = interface(source)
    with answering(source):
        found = api.model_info(source, revision=revision, files_metadata=True)
        sizes = {one.rfilename: one.size or 0 for one in found.siblings or ()}
        names = [name for name in sizes if name not in LEFT]
        refuse_others(names, source)
        needed, free = sum(map(sizes.__getitem__, names)), shutil.disk_usage(folder).free
        if needed > free:
            raise CheckpointError(
                f"{source} has {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free in {folder}."
            )
        api.snapshot_download(source, revision=found.sha, local_dir=folder, allow_patterns=names)
    return names, str(found.sha)


def folder_of(place: str) -> Path | None:
    """The folder that `file:FOLDER` names; None for a model on the hub. Raises ConfigError for what
    is neither."""
    if place.startswith(LOCAL):
        return Path(place.removeprefix(LOCAL))
    if not ON_HUB.fullmatch(place):
        raise ConfigError(
            f"{place!r} is no model on a hub, expected OWNER/NAME, or {LOCAL}FOLDER for a folder."
        )
    return None


def interface(place: str) -> Any:
    """The hub's interface in Python. Raises ConfigError, with the way out, where it is missing."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ConfigError(
            f"{place} is on a hub, but huggingface_hub cannot be imported ({error}). Install it: "
            f"pip install 'matey-pde[hub]', or give {LOCAL}FOLDER."
        ) from error
    return HfApi(library_name="matey", library_version=matey.__version__)


@contextmanager
def answering(place: str) -> Iterator[None]:
    """Turn whatever a hub's library raises into one line."""
    try:
        yield
    except MateyError:
        raise
    except Exception as error:  # of several HTTP libraries, by version
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"The hub refused {place}: {type(error).__name__}: {' '.join(lines[:2])}"
        ) from error


def names_in(folder: Path) -> list[str]:
    """The files in a folder, with their folders below it. Raises CheckpointError if it is none."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder.")
    inside = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = sorted(path.relative_to(folder).as_posix() for path in inside)
    return [name for name in names if name not in LEFT]


def refuse_others(names: Iterable[str], where: str) -> None:
    """Raise CheckpointError for files that are no part of a model folder."""
    others = [name for name in names if not belongs(name)]
    if others:
        raise CheckpointError(
            f"{where} holds {', '.join(sorted(others)[:8])}: a model folder has safetensors, JSON "
            f"and {CARD} alone, and nothing else is sent or fetched."
        )


def belongs(name: str) -> bool:
    """Whether a file may be part of a model folder, by its name below it."""
    parts = name.split("/")
    named = len(parts) <= 2 and all(NAME.fullmatch(part) for part in parts)
    return named and (parts[-1] == CARD or PurePosixPath(name).suffix in KINDS)


def refuse_existing(folder: Path) -> None:
    """Raise CheckpointError for a folder that is there: nothing is replaced."""
    if os.path.lexists(folder):
        raise CheckpointError(f"{folder} exists, and is not replaced. Choose a new folder.")


def copy(source: Path, names: Iterable[str], destination: Path) -> None:
    """Copy files into a folder. Raises OSError."""
    destination.mkdir(exist_ok=True)
    for name in names:
        (destination / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, destination / name)


def check(folder: Path, names: Iterable[str]) -> None:
    """Raise MateyError unless these files of a folder can be read and make a sound model."""
    for path in (folder / name for name in names):
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".safetensors":
            load_tensors(path)
    load(folder)
    load_yardstick(folder / BESIDE)
