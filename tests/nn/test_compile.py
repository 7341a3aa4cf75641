import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

COUNT = textwrap.dedent(
    """
    import torch
    from torch._dynamo.testing import CompileCounterWithBackend
    from matey.nn.adapters.low_rank import adapters, choose_weights
    from tests.nn.helpers import rough_inputs, system, tiny_model

    scheme, mode, trains = {scheme!r}, {mode!r}, {trains!r}

    def make():
        made = tiny_model(spec, scheme=scheme, mode=mode, depth=3).train()
        choose_weights(made, trains, 2)
        for *_, adapter in adapters(made):
            torch.nn.init.normal_(adapter.up, std=0.1)
        return made

    counter = CompileCounterWithBackend("aot_eager")
    spec = system()
    model, plain = make(), make()
    model.compile_blocks(counter)
    counts, tokens = [], set()
    for seed in range(8):
        inputs = rough_inputs(spec, points=32, samples=2 + seed % 3, seed=seed)
        prediction = model(inputs)
        prediction.normalised.square().mean().backward()
        tokens.add(len(prediction.packing.cell))
        counts.append(counter.frame_count)
        expected = plain(inputs).normalised
        torch.testing.assert_close(prediction.normalised, expected, rtol=1e-4, atol=1e-5)
    assert len(tokens) > 4, tokens
    print(counts)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "mode", "trains"),
    [  # each scheme, mode and way to train: one takes half a minute
        ("vit", "adap_mix", "full"),
        ("avit", "adap_mul", "full"),
        ("svit", "adap_mix", "lora"),
    ],
)
def test_changing_token_counts_compile_the_blocks_once(scheme, mode, trains):
    """In a process of its own, where annotations are not executed. What matters is counted: how
    often a graph was compiled, after each of eight steps with other numbers of tokens."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(scheme=scheme, mode=mode, trains=trains)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = [int(word) for word in done.stdout.strip("[]\n ").split(",")]
    # The first step compiles; the second may once more, for sizes that turn out to vary.
    assert counts[1] > 0
    assert counts[2:] == [counts[1]] * 6
