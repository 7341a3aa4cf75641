"""The paper's experiments, each one command: cells, statistics and a verdict on each claim.

Source: arXiv:2412.20601.
"""
