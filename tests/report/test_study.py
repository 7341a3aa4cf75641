"""What the page of a study shows, from its `study.json`."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from matey.errors import DataError
from matey.report import build
from tests.pages import ROOT

from .test_page import outline

STUDY = {
    "format": 1,
    "study": "tokens",
    "title": "Do adaptive tokens pay?",
    "question": "How much cheaper are they?",
    "scale": "cpu",
    "facts": [["Seeds", "3, from 0 on"]],
    "claims": [
        {"claim": "They are cheaper", "answer": "held", "sentences": ["water: 3 times."]},
        {"claim": "Always <so>", "answer": "not held", "sentences": ["gas: 0.9 times."]},
        {"claim": "By memory too", "answer": "undecided", "sentences": []},
    ],
    "plots": [
        {
            "title": "water: error over tokens",
            "x": "tokens per frame",
            "y": "NRMSE one step ahead",
            "groups": [
                {
                    "name": "uniform",
                    "joined": True,
                    "spots": [
                        {"name": "coarse", "x": 16, "y": 0.2, "low": 0.1, "high": 0.3},
                        {"name": "fine", "x": 64, "y": 0.1, "low": None, "high": None},
                    ],
                },
                {
                    "name": "adap_mix",
                    "joined": False,
                    "spots": [
                        {"name": "adap_mix 0.3", "x": 20, "y": 0.12, "low": 0.1, "high": 0.14},
                        {"name": "diverged", "x": 20, "y": None, "low": None, "high": None},
                    ],
                },
            ],
        }
    ],
    "tables": [
        {"title": "water", "note": "NRMSE", "columns": ["point", "error"], "rows": [["a", "0.1"]]}
    ],
}


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps({**STUDY, **changes}))
    return folder


def test_a_page_of_a_study_begins_with_the_verdict_on_each_claim(tmp_path):
    build([write(tmp_path / "s")], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    parsed = outline(page)
    assert set(parsed.references) <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "Of 3 claims: 1 held, 1 not held, 1 undecided." in page
    assert page.index("They are cheaper") < page.index("water: error over tokens")
    assert "Always &lt;so&gt;" in page
    assert page.count("<circle") == 3  # one cell diverged, and has no place
    assert "adap_mix 0.3: 0.12 at 20" in page


def test_a_study_stands_on_one_page_with_a_run(tmp_path, run_folder):
    build([write(tmp_path / "s"), run_folder], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert outline(page).ids
    assert "They are cheaper" in page
    assert 'id="cost"' in page


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 9}, "has format 9"),
        ({"claims": {}}, "expected a list"),
        ({"claims": [{"claim": "x", "answer": "maybe", "sentences": []}]}, "answer is 'maybe'"),
        ({"tables": [{**STUDY["tables"][0], "rows": [["a"]]}]}, "rows of other lengths"),
        ({"plots": [{**STUDY["plots"][0], "groups": [{"name": "x"}]}]}, "has no 'spots'"),
        ({"facts": [["alone"]]}, "expected 2 items"),
    ],
)
def test_a_damaged_study_is_named_with_what_is_wrong(tmp_path, changes, complaint):
    with pytest.raises(DataError, match=complaint):
        build([write(tmp_path / "s", **changes)], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_plots_for_the_documentation_are_drawn_from_what_a_study_left(tmp_path):
    folder, picture = write(tmp_path / "s"), tmp_path / "a.png"
    words = [sys.executable, f"{ROOT}/docs/study_plots.py", str(folder), "--out", str(picture)]
    subprocess.run([*words, "--x", "tokens per frame"], check=True)
    with Image.open(picture) as image:
        assert len(image.convert("L").getcolors()) > 10
    done = subprocess.run([*words, "--x", "hours"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no plot over 'hours', but over tokens per frame" in done.stderr
