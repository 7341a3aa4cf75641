"""What a step and a run cost: operations, weights, memory, time."""
