"""Progress of frames, on a terminal and without one."""

import sys

from matey.cli.console import show_progress


def test_without_a_terminal_each_quarter_is_a_line_with_rate_and_time_left(capsys):
    with show_progress("writing") as watch:
        for done in range(1, 9):
            watch(done, 8)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == [
        f"writing: {done} of 8 frames" for done in (2, 4, 6, 8)
    ]
    assert all("frames/s, 0 s left" in line for line in lines)


def test_short_work_says_nothing_where_there_is_patience(capsys):
    with show_progress("writing", patience=60) as watch:
        watch(8, 8)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress("writing") as watch:
        watch(3, 8)
        watch(8, 8)
    assert "8/8" in capsys.readouterr().err
