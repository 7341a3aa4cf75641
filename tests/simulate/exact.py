"""Exact solutions that several systems are compared with."""

import math

import torch


def riemann(left, right, speed, gamma: float):
    """Exact density of a shock tube at x / t = speed (Toro, chapter 4).

    `left` and `right` are (density, velocity, pressure).
    """

    def curve(pressure, rho, p):
        """Change of velocity from p to `pressure` across a wave."""
        if pressure > p:
            return (pressure - p) * math.sqrt(2 / rho / ((gamma + 1) * pressure + (gamma - 1) * p))
        c = math.sqrt(gamma * p / rho)
        return 2 * c / (gamma - 1) * ((pressure / p) ** ((gamma - 1) / (2 * gamma)) - 1)

    low, high = 1e-9, 10 * max(left[2], right[2])
    for _ in range(200):  # bisection for the pressure between the waves
        p = (low + high) / 2
        balance = curve(p, left[0], left[2]) + curve(p, right[0], right[2]) + right[1] - left[1]
        low, high = (p, high) if balance < 0 else (low, p)
    contact = left[1] - curve(p, left[0], left[2])
    density = torch.empty_like(speed)
    for side, (rho, u, pressure) in ((1, left), (-1, right)):
        s, u = side * speed, side * u  # the right wave is the left one in a mirror
        middle = side * contact
        c = math.sqrt(gamma * pressure / rho)
        ratio = p / pressure
        if ratio > 1:
            a = (gamma - 1) / (gamma + 1)
            star = rho * (ratio + a) / (a * ratio + 1)
            front = u - c * math.sqrt((gamma + 1) / (2 * gamma) * (ratio - 1) + 1)
            values = torch.where(s < front, rho, star)
        else:
            star = rho * ratio ** (1 / gamma)
            tail = middle - c * ratio ** ((gamma - 1) / (2 * gamma))
            fan = 2 / (gamma + 1) + (gamma - 1) / ((gamma + 1) * c) * (u - s)
            fan = rho * fan.clamp(min=0) ** (2 / (gamma - 1))
            values = torch.where(s < u - c, rho, torch.where(s < tail, fan, star))
        here = s < middle
        density[here] = values[here].double()
    return density
