"""Baselines through the loop, the scorer and the report that the transformer goes through."""

import json
from dataclasses import replace

import pytest
import torch

import matey
from matey.cli import main
from matey.config import BaselineConfig, DataConfig, ModelConfig, WindowConfig
from matey.errors import ConfigError
from matey.train.finetune import finetune
from matey.train.loop import train
from tests.nn.test_baselines import KINDS
from tests.train.test_loop import break_and_resume, config_for, records


def config_of(kind: str, data: DataConfig, **changes):
    model = ModelConfig(
        embed_dim=32, heads=2, depth=1, patches=(8, 4), baseline=BaselineConfig(kind)
    )
    one = replace(data, systems=data.systems[:1])
    settings = {"model": model, "steps": 4, "accumulate": 1, "checkpoint_every": 2}
    return config_for(one, windows=WindowConfig(history=2), **{**settings, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_baseline_equals_the_undisturbed_one_to_the_bit(kind, data, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rollouts = WindowConfig(history=2, pushforward=1, learn_rollout=True)
    config = replace(config_of(kind, data), windows=rollouts)
    model = train(config, whole)
    break_and_resume(config, whole, broken, stop=3)
    field = matey.open(config.data.systems[0].paths[0])[0]
    loaded = matey.from_pretrained(whole)
    assert torch.equal(loaded.rollout(field, 2).values, model.rollout(field, 2).values)
    assert all(r["tokens"] == 0 and r["flop_per_second"] > 0 for r in records(whole, "train"))

    tuned = finetune(whole, replace(config, model=loaded.config, steps=1), tmp_path / "tuned")
    assert tuned.config == loaded.config
    history = replace(config, model=loaded.config, windows=WindowConfig(history=3))
    with pytest.raises(ConfigError, match=r"windows.history is 3, .* 2 frames"):
        finetune(whole, history, tmp_path / "longer")
    other = replace(config, model=loaded.config, data=replace(data, systems=data.systems[1:]))
    with pytest.raises(ConfigError, match="Train one for each system"):
        finetune(whole, other, tmp_path / "other")


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_take_a_baseline(kind, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = data.systems[0].paths[0]
    (tmp_path / "mix.yaml").write_text(f"systems: [{{name: water, paths: ['{path}']}}]\n")
    size = "--model.embed_dim 32 --model.heads 2 --model.depth 1 --model.patches [8,4]"
    words = f"train --data mix.yaml --baseline {kind} --run runs/a --steps 1 --batch 2 {size}"
    (tmp_path / "old.yaml").write_text(f"model: {{kind: {kind}}}")  # as earlier versions had it
    assert main([*words.split(), "--windows.history", "2", "--device", "cpu"]) == 0
    assert (
        main(["evaluate", "runs/a", "--data", "mix.yaml", "--rollout", "2", "--out", "results"])
        == 0
    )
    assert "linear" in capsys.readouterr().out
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    assert scores["model"]["kind"] == kind
    assert scores["systems"][0]["tokens"] == {}
    assert main(["predict", "runs/a", path, "--steps", "1", "--out", "p.nc"]) == 0
    assert "whole frames" in capsys.readouterr().out
    assert main(["report", "runs", "results", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "The model is a baseline" in page
    assert "Linear" in page
    assert (
        main(["finetune", "runs/a", "--data", "mix.yaml", "--steps", "1", "--device", "cpu"]) == 0
    )
    old = ("benchmark cost --config old.yaml", f"benchmark cost --model.kind {kind}")
    for words in (*old, "finetune runs/a --plan"):
        assert main([*words.split(), "--data", "mix.yaml"]) != 0
        assert "costs are not forecast" in capsys.readouterr().err
    assert f"A {kind} of width" in " ".join(
        (tmp_path / "runs/a/model/README.md").read_text().split()
    )


def test_systems_of_other_variables_need_a_baseline_each(data, tmp_path):
    config = replace(config_of("unet", data), data=data)
    with pytest.raises(ConfigError, match=r"is unlike 'shallow_water'.*--baseline unet"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() or not [*(tmp_path / "run").glob("*.yaml")]


def stencil_words(paths) -> str:
    systems = ", ".join(f"{{name: {name}, paths: ['{path}']}}" for name, path in paths.items())
    return f"systems: [{systems}]\n"


def test_a_stencil_is_a_run_like_any_other_of_systems_of_other_variables(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    paths = {source.name: source.paths[0] for source in data.systems}
    (tmp_path / "mix.yaml").write_text(stencil_words(paths))
    words = "train --data mix.yaml --run runs/a --windows.history 2 --model.baseline.kind stencil"
    words += " --model.baseline.width 3 --device cpu"
    assert main(words.split()) == 0
    run = tmp_path / "runs/a"
    assert [record["steps"] for record in records(run, "start")] == [1]
    assert list(records(run, "valid")[0]["nrmse"]) == list(paths)
    assert [record["best"] for record in records(run, "end")] == [1]
    trained = records(run, "train")[0]
    assert list(trained["losses"]) == list(paths)
    assert trained["flop_per_second"] > 0
    assert json.loads((run / "provenance.json").read_text())["split"]
    evaluated = "evaluate runs/a --data mix.yaml --rollout 2 --out results"
    assert main(evaluated.split()) == 0
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    assert scores["model"]["kind"] == "stencil"
    assert len(scores["systems"]) == len(paths)
    for path in paths.values():
        assert main(["predict", "runs/a", path, "--steps", "1", "--out", "p.nc"]) == 0
    assert "a stencil" in capsys.readouterr().out
    assert main(["report", "runs", "results", "--out", "page.html"]) == 0
    assert "a least-squares stencil of width 3" in (tmp_path / "page.html").read_text()
    assert "A stencil of width 3" in " ".join((run / "model/README.md").read_text().split())

    before = (run / "model/model.safetensors").read_bytes()
    assert main([*words.split(), "--resume", "auto"]) == 0
    assert (run / "model/model.safetensors").read_bytes() == before
    assert len(records(run, "train")) == 1
    capsys.readouterr()
    assert main(words.split()) != 0
    assert "holds a run" in capsys.readouterr().err
    assert main([*words.split(), "--resume", "auto", "--model.baseline.width", "5"]) != 0
    assert "cannot go on with other settings" in capsys.readouterr().err
    assert main(["finetune", "runs/a", "--data", "mix.yaml", "--device", "cpu"]) != 0
    assert "fitted anew in seconds" in capsys.readouterr().err


def test_a_stencil_that_is_stopped_begins_again(data, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = replace(config_of("stencil", data, steps=1), data=data)
    model = train(config, whole)
    break_and_resume(config, whole, broken, stop=1)
    loaded = matey.from_pretrained(broken)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])
