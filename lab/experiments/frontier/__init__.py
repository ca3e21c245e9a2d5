"""Accuracy for bytes on the air: the shipped bundle beside every other way to get the same answer.

The bundle is measured when the command runs. The others are networks that do not ship: `records/` keeps what
became of each test image with each of them, so that all differences are paired.
"""
