"""The work chains: the loop, its four stages, and the restart of a training."""
