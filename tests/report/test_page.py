"""The page: complete, self-contained, and honest about a model that fails."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from matey.errors import DataError
from matey.report import build

from .conftest import GRIDS, cube, following, scores_of, shallow_water, write_results, write_run

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects ids, references and headings."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if attributes.get("href", "").startswith("#"):
            self.references.append(attributes["href"][1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(*sources, out):
    build(sources, out)
    return out.read_text(encoding="utf-8")


def outline(page):
    parsed = Outline()
    parsed.feed(page)
    assert parsed.open == []
    return parsed


def test_the_page_loads_nothing_from_elsewhere(run_folder, results_folder, tmp_path):
    page = page_of(run_folder, results_folder, out=tmp_path / "report.html")
    assert not re.findall(r"https?:|url\(|@import|src=\"(?!data:)|<link|srcset", page)
    assert set(re.findall(r'(?:href|action)="(.)', page)) == {"#"}


def test_elements_nest_and_every_reference_has_its_target(run_folder, results_folder, tmp_path):
    parsed = outline(page_of(run_folder, results_folder, out=tmp_path / "report.html"))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.references) <= set(parsed.ids)


def test_every_picture_says_what_it_shows(run_folder, results_folder, tmp_path):
    parsed = outline(page_of(run_folder, results_folder, out=tmp_path / "report.html"))
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
    charts = [a for tag, a in parsed.tags if tag == "svg" and a.get("class") == "chart"]
    assert charts
    assert all(a["role"] == "img" and a["aria-label"] for a in charts)


def test_the_verdict_comes_before_any_table(run_folder, results_folder, tmp_path):
    page = page_of(run_folder, results_folder, out=tmp_path / "report.html")
    # 1 - 0.0121 / 0.0713 = 0.83 for shallow water; the geometric mean over three is 0.72.
    assert page.index("72% lower error than persistence") < page.index("<table")
    assert "83% lower" in page


def test_a_model_worse_than_persistence_is_called_so(tmp_path):
    results = write_results(tmp_path / "results", systems={"shallow_water": (0.2, 0.1)})
    page = page_of(results, out=tmp_path / "report.html")
    assert "not better than persistence" in page
    assert "Persistence is better on shallow_water (from step 1)." in page


def test_a_rollout_that_diverges_is_called_so(tmp_path):
    results = write_results(tmp_path / "results", systems={"shallow_water": (0.01, 0.1)})
    scores = json.loads((results / "scores.json").read_text())
    metric = scores["systems"][0]["metrics"]["nrmse"]
    for curve in (metric["mean"], metric["by_variable"]["height"]):
        curve["error"][5:] = [None] * 5
    scores["systems"][0]["divergence"] = {"rollouts": 3, "unfinished": 3, "first": 6}
    (results / "scores.json").write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    assert "diverged" in page
    assert "shallow_water (from step 6)" in page
    assert "partly better than persistence" in page
    assert "3 of 28 rollouts diverged, the first at step 6" in page


def test_an_error_that_is_undefined_is_called_so_and_not_diverged(tmp_path):
    results = write_results(tmp_path / "results", systems={"thermals": (0.01, 0.1)})
    scores = json.loads((results / "scores.json").read_text())
    nothing = [None] * 10
    curve = {"error": nothing, "persistence": nothing}
    scores["systems"][0]["metrics"]["nrmse"]["by_variable"]["velocity_x"] = curve
    (results / "scores.json").write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    assert page.count("undefined") == 4
    assert "No rollout diverged" in page
    assert page.count("diverged") == 1


def test_exact_persistence_is_no_yardstick(tmp_path):
    results = write_results(tmp_path / "results", systems={"shallow_water": (0.01, 0.0)})
    page = page_of(results, out=tmp_path / "report.html")
    assert "Persistence is exact or undefined: nothing to compare with" in page
    assert page.count("diverged") == page.count("No rollout diverged")


def test_the_page_tells_how_cells_were_chosen(tmp_path):
    results = write_results(tmp_path / "results")
    path = results / "scores.json"
    scores = json.loads(path.read_text())
    scores["model"] |= {"mode": "adap_mul", "scheme": ["svit", "svit", "vit"]}
    scores["model"]["refine"] |= {"criterion": "gradient", "token_budget": 800}
    path.write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    assert "The model is a SViT, SViT and ViT transformer" in page
    assert "sequences of their own (adap_mul)" in page
    assert "gradient is largest, up to 800 tokens per frame, and 1 ring around" in page


def test_each_step_has_an_error_scale_of_its_own(tmp_path):
    """Errors grow along a rollout: on the last step's scale the first would be white."""
    page = page_of(write_results(tmp_path / "results"), out=tmp_path / "report.html")
    ranges = re.findall(r"error ±([\d.]+)", page)[:3]
    assert sorted(ranges, key=float) == ranges
    assert float(ranges[0]) < 0.5 * float(ranges[2])


def test_each_step_has_cells_of_its_own_where_the_file_tells(tmp_path):
    """The ring of the shallow water spreads, and its fine cells with it."""
    page = page_of(write_results(tmp_path / "results"), out=tmp_path / "report.html")
    water, thermals = page.split('<article class="card gallery')[1:3]
    outlines = re.findall(r'<path id="(g0-0[-\d]*)" d="([^"]*)"', water)
    assert [name for name, _ in outlines] == ["g0-0", "g0-0-0", "g0-0-1", "g0-0-2"]
    assert len({path for _, path in outlines}) == 4
    used = re.findall(r'href="#(g0-0[-\d]*)"', water)  # the last frame given, then the steps
    assert list(dict.fromkeys(used)) == ["g0-0", "g0-0-0", "g0-0-1", "g0-0-2"]
    counts = re.findall(r"error ±[\d.]+, (\d+) cells", water)
    expected = shallow_water()["step_cells"].tolist()
    assert [int(count) for count in counts] == expected
    assert len(set(expected)) > 1
    # Of an older file the cells of the last frame given are drawn over every step.
    assert set(re.findall(r'href="#(g0-1[-\d]*)"', thermals)) == {"g0-1"}
    assert " cells</span>" not in thermals


def test_every_score_has_a_label_for_narrow_screens(tmp_path):
    parsed = outline(page_of(write_results(tmp_path / "results"), out=tmp_path / "report.html"))
    labels = [a["data-label"] for tag, a in parsed.tags if tag == "td" and "data-label" in a]
    row = ["Rollouts", "NRMSE, 1 step", "Persistence", "Error is"]
    row += ["Step", "NRMSE", "Persistence", "Error is", "Tokens"]
    assert labels == 3 * row


def test_every_metric_of_every_variable_stands_in_a_sortable_table(tmp_path):
    results = write_results(tmp_path / "results", systems={"thermals": (0.01, 0.1)})
    page = page_of(results, out=tmp_path / "report.html")
    assert page.count('<table class="sortable') == 4  # scores, metrics, health, cost
    for name in ("nrmse", "mae"):  # the mean, and two variables
        assert page.count(f'<th scope="row">{name}</th>') == 3
    assert "≥" not in page.split('id="reading"')[0]
    assert "<td>4</td>" in page
    assert "Energy of velocity_x, 10 steps ahead" in page
    assert "Correlation over space" in page


def with_seams(results: Path, seams: dict) -> Path:
    """Give the systems of a results folder how far edges show one step ahead, or None."""
    scores = json.loads((results / "scores.json").read_text())
    for system in scores["systems"]:
        seam = seams.get(system["name"])
        system["seams"] = seam and {"mean": [seam, *[1.0] * 9], "by_variable": {}}
    (results / "scores.json").write_text(json.dumps(scores))
    return results


def test_seams_stand_beside_the_scores_where_a_model_has_patches(tmp_path):
    named = {"burgers": (0.01, 0.1), "thermals": (0.01, 0.1)}
    results = write_results(tmp_path / "results", systems=named)
    page = page_of(with_seams(results, {"burgers": 1.734}), out=tmp_path / "report.html")
    shown = re.findall(r'<td data-label="Seams" data-value="(.*?)">(.*?)</td>', page)
    assert shown == [("1.734", "1.73"), ("nan", "–")]
    assert "one step ahead: 1 is no edges" in page.split('id="reading"')[0]

    bare = page_of(with_seams(results, {}), out=tmp_path / "bare.html").split('id="reading"')[0]
    assert "Seams" not in bare


def test_the_stencil_stands_beside_persistence_where_there_is_one(tmp_path):
    named = {"burgers": (0.01, 0.1), "thermals": (0.01, 0.1)}
    results = write_results(tmp_path / "results", systems=named)
    scores = json.loads((results / "scores.json").read_text())
    burgers, thermals = scores["systems"]
    burgers["metrics"]["nrmse"]["mean"]["stencil"] = [0.02 * step for step in range(1, 11)]
    thermals["no_stencil"] = "The grid is stretched."
    (results / "scores.json").write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    shown = re.findall(r'<td data-label="Stencil" data-value="(.*?)">(.*?)</td>', page)
    assert shown == [("0.02", "0.0200"), ("0.2", "0.200"), ("nan", "–"), ("nan", "–")]
    assert page.count('<th scope="colgroup" colspan="4"') == 1  # one step: ours, and three more
    assert "No stencil stands beside: The grid is stretched. No rollout" in page
    legends = re.findall(r'<li class="fit">.*?</svg>(.*?)</li>', page)
    assert legends == ["stencil"]  # in the chart of errors by lead of that system alone


def test_other_metrics_than_the_nrmse_are_called_by_their_name(tmp_path):
    results = write_results(tmp_path / "results", systems={"burgers": (0.01, 0.1)})
    scores = json.loads((results / "scores.json").read_text())
    system = scores["systems"][0]
    system["metrics"]["vrmse"] = system["metrics"].pop("nrmse")
    system["primary"] = "vrmse"
    scores["protocol"]["name"] = "well-1.2"
    (results / "scores.json").write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    assert "VRMSE on test trajectories by the protocol well-1.2" in page
    assert "VRMSE, one step" in page


def test_a_run_alone_is_reported(run_folder, tmp_path):
    page = page_of(run_folder, out=tmp_path / "report.html")
    assert "In its last validation" in page
    assert "Training loss" in page
    assert "matey train --config" in page


def test_results_alone_are_reported(results_folder, tmp_path):
    page = page_of(results_folder, out=tmp_path / "report.html")
    assert 'id="scores"' in page
    assert 'id="training"' not in page


def test_results_without_pictures_are_reported(tmp_path):
    results = write_results(tmp_path / "results")
    for example in (results / "examples").iterdir():
        example.unlink()
    page = page_of(results, out=tmp_path / "report.html")
    assert 'id="predictions"' not in page


def test_a_run_that_has_not_logged_yet_is_reported(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    assert "No step is logged yet" in page_of(run, out=tmp_path / "report.html")


def test_two_models_stand_side_by_side(tmp_path):
    first = write_results(tmp_path / "first", name="runs/a")
    second = write_results(tmp_path / "second", name="runs/b")
    page = page_of(first, second, out=tmp_path / "report.html")
    assert page.count('aria-label="Verdict on') == 2
    assert "<h1>a and b</h1>" in page


def many(folder: Path, models: int) -> Path:
    """A study: a folder of results of models that grow better, and spend more tokens."""
    for i in range(models):
        results = write_results(folder / "results" / f"m{i}", f"runs/m{i}")
        scores = json.loads((results / "scores.json").read_text())
        for system in scores["systems"]:
            system["tokens"]["mean"] *= 1 + i
            curve = system["metrics"]["nrmse"]["mean"]
            curve["error"] = [error / (1 + i) for error in curve["error"]]
        (results / "scores.json").write_text(json.dumps(scores))
    return folder


def test_a_study_is_a_folder_of_runs_and_results_and_its_best_model_comes_first(tmp_path):
    study = many(tmp_path / "study", 5)
    write_run(study / "runs" / "m0")
    page = page_of(study, out=tmp_path / "report.html")
    outline(page)
    assert "Of 5 models m4 is best" in page
    assert page.index("Of 5 models m4 is best") < page.index("Verdict on each of 5 models")
    assert page.index("Verdict on each of 5 models") < page.index('aria-label="Verdict on m0"')
    assert page.count("Error and tokens: ") == 2 * len(GRIDS)  # the title, and the label
    assert "Training of m0" in page


def test_two_models_are_not_ranked(tmp_path):
    assert "is best" not in page_of(many(tmp_path / "study", 2), out=tmp_path / "report.html")


def test_a_study_with_a_model_that_diverged_ranks_it_last(tmp_path):
    study = many(tmp_path / "study", 4)
    path = study / "results" / "m3" / "scores.json"
    scores = json.loads(path.read_text())
    for system in scores["systems"]:
        system["metrics"]["nrmse"]["mean"]["error"] = [None] * 10
    path.write_text(json.dumps(scores))
    page = page_of(study, out=tmp_path / "report.html")
    assert "Of 4 models m2 is best" in page
    assert "the worst is m3: diverged" in page


def test_cost_stands_beside_the_scores(run_folder, results_folder, tmp_path):
    page = page_of(run_folder, results_folder, out=tmp_path / "report.html")
    cost = page.split('id="cost"')[1].split("</section>")[0]
    names = re.findall(r"<button[^>]*>(.*?)<span", cost)
    values = re.findall(r'<td data-value="([^"]*)">(.*?)</td>', cost)
    told = dict(zip(names[1:], (text for _, text in values), strict=True))
    assert told["Parameters"] == "1.23\u202fM"
    assert told["Training steps"] == "1,000"
    assert told["Windows"] == "8\u202fk"  # a hundred records of 80
    assert told["Tokens"] == "800\u202fk"
    assert told["Training"].replace("\u00a0", " ") == "3 min 51 s"
    assert told["Operations"] == told["Of peak"] == "–"  # these records do not tell


def test_scores_tell_where_they_come_from(results_folder, tmp_path):
    scores = json.loads((results_folder / "scores.json").read_text())
    scores["provenance"] = {"command": "matey evaluate runs/a", "versions": {"matey": "0.1.0"}}
    (results_folder / "scores.json").write_text(json.dumps(scores))
    page = page_of(results_folder, out=tmp_path / "report.html").split('id="provenance"')[1]
    for text in ("matey evaluate runs/a", "matey 0.1.0", "28 rollouts of 10 dt", "default"):
        assert f"<dd>{text}" in page


def test_spectra_are_of_the_variable_that_changes_most(tmp_path):
    results = write_results(tmp_path / "results", systems={"thermals": (0.01, 0.1)})
    scores = json.loads((results / "scores.json").read_text())
    by_variable = scores["systems"][0]["metrics"]["nrmse"]["by_variable"]
    by_variable["potential_temperature"]["persistence"] = [1e-3] * 10
    (results / "scores.json").write_text(json.dumps(scores))
    page = page_of(results, out=tmp_path / "report.html")
    assert "thermals: velocity_x, 10 steps ahead" in page.split('id="spectra"')[1]


def test_large_examples_leave_the_page_light(tmp_path):
    """Seventeen frames of four variables of noise, which no PNG makes small, on 256 x 256."""
    results = write_results(tmp_path / "results", systems={"thermals": (0.01, 0.1)})
    noise = np.random.default_rng(0).normal(size=(17, 4, 1, 256, 256)).astype(np.float32)
    example = {**shallow_water(), "truth": noise, "prediction": noise[::-1], "last": noise[0]}
    example |= {"steps": np.arange(1, 18), "variables": np.array(list("abcd"))}
    example |= following(noise[:, 0, 0], 8, 4, 0.75)  # cells where they like
    np.savez(results / "examples" / "thermals.npz", **example)
    page = page_of(results, out=tmp_path / "report.html")
    assert len(page) < 11e6  # a picture of noise takes a byte per point, and 4/3 as text
    assert page.count('class="frame') == 4 * 7
    assert sum(map(len, re.findall(r'<path id="g0-0-[^>]*>', page))) < 0.4e6
    assert page.count('class="frame key"') == 4 * 3


def test_three_dimensions_are_drawn_as_their_middle_slice(tmp_path):
    results = tmp_path / "results"
    (results / "examples").mkdir(parents=True)
    np.savez(results / "examples" / "cube.npz", **cube())
    system = {**scores_of("burgers", 0.1, 0.2), "name": "cube", "grid": [8, 8, 8]}
    (results / "scores.json").write_text(json.dumps({"format": 2, "systems": [system]}))
    page = page_of(results, out=tmp_path / "report.html")
    assert "4 × 4 × 4" in page
    assert 'alt="Truth of density, 1 step ahead"' in page


def test_names_from_files_cannot_become_markup(tmp_path):
    results = write_results(tmp_path / "results", name="<script>alert(1)</script>")
    text = (results / "scores.json").read_text().replace("thermals", "<b onclick=x>")
    (results / "scores.json").write_text(text)
    page = page_of(results, out=tmp_path / "report.html")
    assert "<script>alert" not in page
    assert "<b onclick" not in page


def test_the_page_is_written_whole_and_nothing_beside_it(results_folder, tmp_path):
    out = tmp_path / "pages" / "report.html"
    build([results_folder], out)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_an_unwritable_page_is_a_one_line_error(results_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/report\.html cannot be written"):
        build([results_folder], tmp_path / "file" / "report.html")
