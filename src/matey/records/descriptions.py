"""How the files of a run were described, which goes along with its model.

A model folder holds, by system, the entry of the data config that its files were read by, without
their paths: files that say as little as those of the training are read in the same way.
"""

from pathlib import Path
from typing import Any

import yaml

from matey.config import DataConfig, SourceConfig
from matey.errors import DataError, MateyError
from matey.output import plain_yaml
from matey.records.files import convert, read, read_json, read_text
from matey.records.shipped import located

KEY = "descriptions"
HERE = "."  # stands for paths, of which a description has none


def read_descriptions(path: Path) -> tuple[SourceConfig, ...]:
    """The descriptions in a run or a model folder. None where an older version wrote it without.

    `path` may be the name of a model that ships. Raises DataError where there is no run, or its
    record is damaged.
    """
    path = located(path)
    for file in (path / "config.json", path / "model" / "config.json"):
        if file.is_file():
            training = read_json(file).get("training")
            if isinstance(training, dict) and KEY in training:
                return sources_of(training[KEY], str(file))
    config = path / "config.yaml"
    if config.is_file():
        try:
            settings = plain_yaml(read_text(config))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{config} is damaged: {error}") from error
        data = settings.get("data") if isinstance(settings, dict) else None
        return read_config(data, str(config)).systems
    if (path / "config.json").is_file():
        return ()
    raise DataError(f"{path} is neither a run nor a model folder: it says nothing of its data.")


def sources_of(entries: Any, where: str) -> tuple[SourceConfig, ...]:
    """Descriptions by system, as they stand in a model folder. Raises DataError."""
    try:
        named = convert(dict[str, dict[str, Any]], entries, KEY)
        return tuple(
            read(SourceConfig, {**entry, "name": name, "paths": [HERE]}, f"{KEY}.{name}")
            for name, entry in named.items()
        )
    except (ValueError, MateyError) as error:
        raise DataError(f"{where} is damaged: {error}") from error


def read_config(entry: Any, where: str) -> DataConfig:
    """The data config in the record of a run. Raises DataError."""
    try:
        return read(DataConfig, entry or {}, "data")
    except (ValueError, MateyError) as error:
        raise DataError(f"{where} is damaged: {error}") from error
