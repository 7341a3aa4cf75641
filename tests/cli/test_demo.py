"""The demo around its commands: what it may remove, and that it stops where one fails."""

import pytest

from matey.cli import demo, main


@pytest.fixture
def without_work(monkeypatch):
    """The demo's commands are noted, not run; the second fails."""
    seen = []

    def note(words):
        seen.append(words)
        return 3 if len(seen) == 2 else 0

    monkeypatch.setattr(demo, "dispatch", note)
    return seen


def test_the_demo_stops_where_a_command_fails_and_returns_its_code(without_work, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 3
    assert len(without_work) == 2


def test_a_demo_is_made_again_over_its_own_folder_only(without_work, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 3
    (out / "results").mkdir()
    assert main(["demo", "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["demo", "--out", str(out), "--again"]) == 0
    assert not (out / "results").exists()
    (out / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(out), "--again"]) == 2
    assert "thesis.tex" in capsys.readouterr().err
    assert (out / "thesis.tex").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/data").mkdir()
    assert main(["demo", "--out", str(tmp_path / "other"), "--again"]) == 2
    assert (tmp_path / "other/data").exists()
