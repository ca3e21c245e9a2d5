"""Experiments: whole runs whose figures are quoted, each behind one command."""
