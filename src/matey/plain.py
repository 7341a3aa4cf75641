"""Plain data from YAML: numbers, texts, lists and mappings. No tag makes an object."""

from typing import Any

import yaml

# libyaml's, where PyYAML has it: files of a thousand trajectories have as many configs.
FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def plain_yaml(text: str, loader: type[Any] = FASTEST) -> Any:
    """The plain data in YAML text; `loader` is a subclass of SafeLoader where more is refused.

    Raises yaml.YAMLError for other text, ValueError for values out of range, RecursionError for
    text nested without end.
    """
    reader = loader(text)
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()
