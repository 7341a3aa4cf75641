"""What adaptive tokens cost beside uniform ones of the same number.

    python benchmarks/adaptive.py                          # Ti, 128², float32

Adap_Mix 16/4 against uniform patches of 8, four samples: about 256 tokens per frame each. The
runs are interleaved. `even`: as many refined cells in each sample; `uneven`: 5 to 21 of 64.
"""

import argparse
import statistics

import torch
from common import options, report, rough_inputs, sized, spec_of, timed

from matey.cost.count import step_cost
from matey.nn.transformer import Matey
from matey.tokens.normalise import measure
from matey.tokens.pack import PACKINGS, locate, pack
from matey.train.loss import squared_nrmse

POINTS, TIMES, VARIABLES = 128, 4, 4
# 64 coarse cells; each refined one adds 15 tokens: 259 against 256.
REFINED = {"even": [13, 13, 13, 13], "uneven": [5, 10, 16, 21]}


class Case:
    """A model and its inputs."""

    def __init__(self, scheme: str, mode: str, patches: tuple[int, ...], rough: list[int]) -> None:
        spec = spec_of(VARIABLES)
        torch.manual_seed(0)
        self.inputs = rough_inputs(spec, TIMES, POINTS, 16, rough)
        config = sized("Ti", scheme=scheme, mode=mode, patches=patches)
        self.model = Matey(config, [spec], TIMES).train()
        self.target = torch.randn_like(self.inputs.values[:, 0])
        packing = PACKINGS[mode](self.model.plan_inputs(self.inputs))
        self.tokens = len(packing.cell) * TIMES
        self.operations = step_cost(self.model, spec, packing.plan).operations

    def step(self) -> None:
        self.model.zero_grad(set_to_none=True)
        prediction = self.model(self.inputs)
        squared_nrmse(prediction.normalised, self.target).backward()

    def plan_and_pack(self) -> None:
        """All that is there for adaptivity: criterion, plan, and the order of the tokens."""
        plan = self.model.plan_normalised(self.fields, self.inputs)
        packing = PACKINGS[self.model.config.mode](plan)
        tokens = [torch.empty(len(used), TIMES, 192) for used in packing.levels]
        pack(tokens, packing), locate(packing, TIMES)

    @property
    def fields(self) -> torch.Tensor:
        return measure(self.inputs.values).normalise(self.inputs.values)


def main() -> None:
    """Measure and report."""
    args = options(__doc__, "benchmarks/results/adaptive.json").parse_args()
    torch.set_num_threads(args.threads)
    rows = [
        measure_pair(scheme, which, args) for scheme in ("vit", "svit", "avit") for which in REFINED
    ]
    report(rows, args.out, args.device)


def measure_pair(scheme: str, which: str, args: argparse.Namespace) -> dict:
    """Mixed over uniform, in time for each token, and in operations."""
    uniform = Case(scheme, "uniform", (8,), REFINED[which])
    mixed = Case(scheme, "adap_mix", (16, 4), REFINED[which])
    for case in (uniform, mixed):
        case.step()
    steps: dict[str, list[float]] = {"uniform": [], "mixed": [], "plan": []}
    for _ in range(args.repeats):
        steps["uniform"].append(timed(uniform.step))
        steps["mixed"].append(timed(mixed.step))
        with torch.no_grad():
            normalise = timed(lambda: mixed.fields)
            steps["plan"].append(timed(mixed.plan_and_pack) - normalise)
    middle = {name: statistics.median(times) for name, times in steps.items()}
    share = mixed.tokens / uniform.tokens
    return {
        "scheme": scheme,
        "refined": which,
        "tokens uniform": uniform.tokens,
        "tokens mixed": mixed.tokens,
        "uniform ms": 1e3 * middle["uniform"],
        "mixed ms": 1e3 * middle["mixed"],
        "time per token, mixed / uniform": middle["mixed"] / middle["uniform"] / share,
        "time / operations, mixed / uniform": middle["mixed"]
        / middle["uniform"]
        / (mixed.operations / uniform.operations),
        "planning and packing %": 100 * middle["plan"] / middle["mixed"],
    }


if __name__ == "__main__":
    main()
