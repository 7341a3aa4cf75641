"""Error against token budget of one trained model: a table and a picture.

    python examples/token_budget.py                                # in an empty folder
    python examples/token_budget.py --model runs/real --data /data/swe --rollout 10

Cost   8 seconds of one CPU core, most of it for a toy model where none is given.
Shows  the same weights at several budgets: what fewer tokens cost in accuracy, and where more
       are of no use. Writes budget.svg, and a results folder per budget: `matey report results`.
"""

import argparse

from matplotlib.figure import Figure

import matey

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from all coarse to all fine


def make_model() -> tuple[str, str]:
    """A toy that has seen a little shallow water, and its data."""
    from matey.simulate import simulate

    fields = simulate("shallow_water", trajectories=6, resolution=64, steps=11, seed=0)
    matey.write_well(fields, "water", name="shallow_water")
    config = matey.RunConfig(
        model=matey.ModelConfig(embed_dim=48, heads=2, depth=1, patches=(8, 4)),
        windows=matey.WindowConfig(history=2),
        optim=matey.OptimConfig(lr=6e-3, warmup=10),
        data=matey.data_config("water"),
        steps=50,
        batch=4,
        validate_windows=4,
    )
    matey.pretrain(config, "runs/toy")
    return "runs/toy", "water"


def main(model_path: str, data_path: str, rollout: int) -> None:
    """Score one model at every budget."""
    model, data = matey.from_pretrained(model_path), matey.data_config(data_path)
    ask = matey.ScoreConfig(steps=rollout, windows=8)
    (found,) = matey.score(model, model_path, data, ask, "results/as-trained")
    coarse, fine = found.tokens["coarse"], found.tokens["fine"]
    errors, tokens = [], []
    print(f"{'budget':>8} {'tokens':>8} {'one step':>9} {f'{found.steps[-1]} steps':>9}")
    for share in SHARES:
        budget = round(coarse + share * (fine - coarse))
        model.refine = matey.RefineConfig(token_budget=budget)
        (score,) = matey.score(model, f"{budget} tokens", data, ask, f"results/{budget}")
        errors.append((score.main.error[0], score.main.error[-1]))
        tokens.append(score.tokens["mean"])
        print(f"{budget:8} {tokens[-1]:8.0f} {errors[-1][0]:9.4f} {errors[-1][1]:9.4f}")
    still = found.main.persistence
    print(f"{'persistence':>17} {still[0]:9.4f} {still[-1]:9.4f}")

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="tokens per frame", ylabel=f"NRMSE, {found.name}")
    for line, steps, marker in zip(
        zip(*errors, strict=True), (found.steps[0], found.steps[-1]), "os", strict=True
    ):
        axes.plot(tokens, line, marker=marker, label=f"{steps} step{'s' if steps > 1 else ''}")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig("budget.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a run or a model folder; else a toy is trained")
    parser.add_argument("--data", help="files of one system, with --model")
    parser.add_argument("--rollout", type=int, default=5, help="steps ahead")
    options = parser.parse_args()
    if (options.model is None) != (options.data is None):
        parser.error("--model and --data go together")
    given = (options.model, options.data) if options.model else make_model()
    main(*given, options.rollout)
