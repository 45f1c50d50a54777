"""Benchmarks: what a prompt and an event cost, here and elsewhere. See docs/benchmarks.md."""
