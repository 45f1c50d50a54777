"""The benchmarks run, and count what they claim to count. No test looks at a time."""
