"""What a model was trained on, against what it is given: units and time step."""

from collections.abc import Iterable, Iterator

from matey.fields import SystemSpec

ROUNDING = 1e-3  # of dt: below this two are the same


def differences(spec: SystemSpec, known: Iterable[SystemSpec]) -> Iterator[str]:
    """What a model that knows some systems will take for something else, a sentence each.

    Values are normalised, so that other units are no error in themselves: but amplitudes mean
    something else then. A step of the model is as long as in training, whatever the data's dt.
    """
    systems = list(known)
    for variable in spec.variables:
        units = {v.units for s in systems for v in s.variables if v.name == variable.name} - {""}
        if variable.units and units and variable.units not in units:
            yield (
                f"{variable.name} of system {spec.name!r} is in {variable.units!r}, but the model "
                f"was trained on it in {', '.join(map(repr, sorted(units)))}."
            )
    names = {variable.name for variable in spec.variables}
    alike = [s for s in systems if s.name == spec.name]
    alike = alike or [s for s in systems if {v.name for v in s.variables} == names]
    if alike and all(abs(s.dt - spec.dt) > ROUNDING * s.dt for s in alike):
        steps = ", ".join(f"{dt:g}" for dt in sorted({s.dt for s in alike}))
        yield (
            f"System {spec.name!r} has a dt of {spec.dt:g}, but the model was trained on {steps}: "
            "its steps are that long. Give it data at that dt, or fine-tune it."
        )
