"""Made-up outcomes and timings: what studies judge."""

from matey.records.study import Guide, Outcome, Timing


def outcome(point: str, budget: str, seed: int, error: float, **more) -> Outcome:
    """A cell of shallow water with this error one step ahead, and twice as much two steps."""
    settings = {
        "cell": f"water/{point}-{budget}-{seed}",
        "point": point,
        "system": "water",
        "budget": budget,
        "seed": seed,
        "steps": 100,
        "operations": 1e9,
        "parameters": 1000,
        "tokens": 64.0,
        "leads": (1, 2),
        "errors": {"nrmse": (error, 2 * error), "vrmse": (error, 2 * error)},
        "persistence": {"nrmse": (1.0, 2.0), "vrmse": (1.0, 2.0)},
        "stencil": {"nrmse": (0.4, 1.6), "vrmse": (0.4, 1.6)},
        "curve": ((50, 2 * error), (100, error)),
        "diverged": 0,
        "guides": (Guide("variance", 1, 0.7), Guide("gradient", 1, 0.6)),
    }
    return Outcome(**{**settings, **more})


def timing(cost: float, **more) -> Timing:
    """An operating point all of whose costs are this many times some unit."""
    settings = {
        "step_seconds": 1e-3 * cost,
        "inference_seconds": 4e-4 * cost,
        "step_bytes": int(1e6 * cost),
        "inference_bytes": int(2e5 * cost),
        "tokens": cost,
        "operations": 1e9 * cost,
        "parameters": 1000,
    }
    return Timing(**{**settings, **more})
