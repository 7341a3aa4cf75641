"""Trajectories that are the same run for a while: parts that overlap, read apart."""

import hashlib

import numpy as np

from matey.data.layouts.base import ROUNDING
from matey.data.trajectories import Fields


def sharing_frames(fields: Fields) -> list[list[int]]:
    """Groups of trajectories that share frames: where one begins while another is under way, with
    the values that this one has then.

    Trajectories that begin at one time are not compared: members of an ensemble may start alike.
    Nothing is read where all begin at once.
    """
    times = [trajectory.times for trajectory in fields.trajectories]
    starts = np.array([float(its[0]) for its in times])
    ends = np.array([float(its[-1]) for its in times])
    tolerance = ROUNDING * fields.spec.dt
    group_of = {i: [i] for i in range(len(times))}
    for begin in np.unique(starts)[1:]:
        under_way = np.flatnonzero((starts < begin - tolerance) & (ends > begin - tolerance))
        if not len(under_way):
            continue
        beginning = {mark(fields, int(i), 0): int(i) for i in np.flatnonzero(starts == begin)}
        for earlier in map(int, under_way):
            frame = int((times[earlier] - begin).abs().argmin())
            if abs(float(times[earlier][frame]) - begin) > tolerance:
                continue
            later = beginning.get(mark(fields, earlier, frame))
            if later is not None and later not in group_of[earlier]:
                joined = [*group_of[earlier], *group_of[later]]
                group_of |= dict.fromkeys(joined, joined)
    groups = {id(group): group for group in group_of.values() if len(group) > 1}
    return [sorted(group) for group in groups.values()]


def mark(fields: Fields, trajectory: int, frame: int) -> bytes:
    """By what a frame is known again."""
    values = fields.read(trajectory, slice(frame, frame + 1)).values
    shape = np.array(values.shape).tobytes()
    return hashlib.blake2b(shape + values.numpy().tobytes(), digest_size=16).digest()
