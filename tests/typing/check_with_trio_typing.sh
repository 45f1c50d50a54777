#!/usr/bin/env bash
# Type-checks the public API as a user sees it who has trio and trio-typing installed, in an environment of
# its own: trio-typing's stubs shadow trio's inline types and its mypy plugin crashes current mypy, so it
# must never be in ours. The plugin stays off; the stubs are what such a user cannot avoid.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" "$root" trio trio-typing mypy
cd "$place" && cp "$here/user.py" . && "$place/venv/bin/mypy" --strict user.py
