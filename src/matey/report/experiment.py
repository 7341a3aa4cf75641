"""What a study found, from its `study.json`: verdicts on claims, charts and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matey.errors import DataError
from matey.report.charts import Chart, Cloud, cloud_chart
from matey.report.files import as_object, need, number_of, read_json
from matey.report.summary import Verdict, plural

FILE = "study.json"
FORMAT = 1
# What a claim's answer means for its badge: grade, and words.
ANSWERS = {
    "held": ("good", "held"),
    "not held": ("bad", "not held"),
    "undecided": ("mixed", "undecided"),
}


@dataclass(frozen=True)
class Table:
    """Text in columns; a first column that repeats is a row's name."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Experiment:
    """A study as it is shown. `claims` have a verdict each."""

    name: str
    title: str
    question: str
    scale: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    claims: tuple[Verdict, ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def has_study(folder: Path) -> bool:
    """Whether a study left its findings here."""
    return (folder / FILE).is_file()


def load_experiment(folder: Path) -> Experiment:
    """The findings of a study. Raises DataError."""
    path = folder / FILE
    record = read_json(path)
    if record.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {record.get('format')!r}, but this version reads {FORMAT}. Give "
            "`matey study` the same command again."
        )
    claims = tuple(claim(entry, path) for entry in entries(record, "claims", path))
    counts = [f"{sum(c.badge == word for c in claims)} {word}" for _, word in ANSWERS.values()]
    return Experiment(
        name=text(record, "study", path),
        title=text(record, "title", path),
        question=text(record, "question", path),
        scale=text(record, "scale", path),
        summary=f"Of {plural(len(claims), 'claim')}: {', '.join(counts)}.",
        facts=tuple(pair(fact, path) for fact in as_list(need(record, "facts", path), path)),
        claims=claims,
        charts=tuple(chart(entry, path) for entry in entries(record, "plots", path)),
        tables=tuple(table(entry, path) for entry in entries(record, "tables", path)),
    )


def claim(entry: Mapping[str, Any], path: Path) -> Verdict:
    """The verdict on one claim."""
    answer = text(entry, "answer", path)
    if answer not in ANSWERS:
        raise DataError(f"{path}: answer is {answer!r}, expected one of {', '.join(ANSWERS)}.")
    grade, badge = ANSWERS[answer]
    sentences = tuple(map(str, as_list(need(entry, "sentences", path), path)))
    return Verdict(answer, grade, badge, text(entry, "claim", path), sentences, ())


def chart(entry: Mapping[str, Any], path: Path) -> Chart:
    """One chart of errors over a cost."""
    clouds = []
    for group in entries(entry, "groups", path):
        spots = entries(group, "spots", path)
        x, y, low, high = (
            [number_of(need(spot, key, path), path, key) for spot in spots]
            for key in ("x", "y", "low", "high")
        )
        names = [text(spot, "name", path) for spot in spots]
        line = group.get("joined") is True
        clouds.append(Cloud(text(group, "name", path), names, x, y, low, high, line))
    title, x_label, y_label = (text(entry, key, path) for key in ("title", "x", "y"))
    return cloud_chart(title, clouds, x_label, y_label)


def table(entry: Mapping[str, Any], path: Path) -> Table:
    """One table, with as many cells in each row as there are columns."""
    columns = tuple(map(str, as_list(need(entry, "columns", path), path)))
    rows = tuple(
        tuple(map(str, as_list(r, path))) for r in as_list(need(entry, "rows", path), path)
    )
    title = text(entry, "title", path)
    if any(len(row) != len(columns) for row in rows):
        raise DataError(f"{path}: table {title!r} has rows of other lengths than its columns.")
    return Table(title, text(entry, "note", path), columns, rows)


def entries(record: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects. Raises DataError."""
    return [as_object(entry, f"{path}: {key}") for entry in as_list(need(record, key, path), path)]


def as_list(value: Any, path: Path) -> list[Any]:
    """The value, if it is a list. Raises DataError."""
    if not isinstance(value, list):
        raise DataError(f"{path} holds a {type(value).__name__}, expected a list.")
    return value


def pair(value: Any, path: Path) -> tuple[str, str]:
    """A name and what it is."""
    found = as_list(value, path)
    if len(found) != 2:
        raise DataError(f"{path}: facts has {found!r}, expected a name and a text.")
    return str(found[0]), str(found[1])


def text(record: Mapping[str, Any], key: str, path: Path) -> str:
    """A text. Raises DataError."""
    return str(need(record, key, path))
