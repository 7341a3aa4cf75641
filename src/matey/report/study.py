"""The findings of a study, from its `study.json`: verdicts on claims, charts and tables."""

from dataclasses import dataclass
from pathlib import Path

from matey.records.study import STUDY_FILE, StudyPage
from matey.report.charts import Chart, cloud_chart
from matey.report.verdict import Verdict
from matey.words import plural

# What a claim's answer means for its badge: grade, and words.
ANSWERS = {
    "held": ("good", "held"),
    "not held": ("bad", "not held"),
    "undecided": ("mixed", "undecided"),
}


@dataclass(frozen=True)
class Study:
    """A study on the page: its findings, a verdict on each claim, the picture of each, if it has
    one, and the charts drawn."""

    page: StudyPage
    claims: tuple[Verdict, ...]
    pictures: tuple[Chart | None, ...]
    charts: tuple[Chart, ...]
    summary: str


def has_study(folder: Path) -> bool:
    """Whether a study left its findings here."""
    return (folder / STUDY_FILE).is_file()


def load_study(folder: Path) -> Study:
    """The findings of a study. Raises DataError."""
    page = StudyPage.load(folder / STUDY_FILE)
    claims = tuple(
        Verdict(one.answer, *ANSWERS[one.answer], one.claim, one.sentences, ())
        for one in page.claims
    )
    counts = [f"{sum(c.badge == word for c in claims)} {word}" for _, word in ANSWERS.values()]
    return Study(
        page=page,
        summary=f"Of {plural(len(claims), 'claim')}: {', '.join(counts)}.",
        claims=claims,
        pictures=tuple(
            None if one.picture is None else cloud_chart(one.picture) for one in page.claims
        ),
        charts=tuple(cloud_chart(plot) for plot in page.plots),
    )
