"""Pairs of drivers without categories, and pairs that silence a neuron, on neurons with planted parts."""
