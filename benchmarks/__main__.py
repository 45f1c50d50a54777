"""`python -m benchmarks`: quick figures. `--full`: all cases, to files. `--check`: is it slower now?"""

import argparse
import sys

from benchmarks import guard, report


def main() -> int:
    """What `make bench`, `make bench-full` and `make bench-check` run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="run all cases; write results and docs")
    parser.add_argument("--check", action="store_true", help="fail on a regression of more than 10 %%")
    parser.add_argument("--only", nargs="+", metavar="CASE", help=f"of {', '.join(report.CASES)}")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(report.CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(report.CASES)}")
    if options.check:
        return guard.check()
    if options.full:
        return report.full(options.only)
    return report.quick(options.only)


if __name__ == "__main__":
    sys.exit(main())
