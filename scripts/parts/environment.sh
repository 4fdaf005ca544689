# Sourced by the other scripts: makes .venv with the package, the extras named in EXTRAS and the dependency groups named
# in DEPENDENCY_GROUPS, both separated by commas, unless that was done.
# A stamp holds a checksum of pyproject.toml, so that a second run skips what is already there.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$name" ] || continue
        if "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "mpqueue needs Python 3.11 or newer with its venv module; none was found. Name one: PYTHON=/path/to/python3 $0" >&2
    exit 1
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    python=$(find_python)
    echo "making .venv with $($python --version)"
    "$python" -m venv .venv
fi
extras=${EXTRAS:-}
groups=${DEPENDENCY_GROUPS:-}
stamp=".venv/set-up-$(echo "$extras+$groups" | tr ',' '-')"
wanted="$(cksum < pyproject.toml) $(pwd)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "installing mpqueue${extras:+[$extras]}${groups:+ with what is needed for $groups} into .venv"
    # Most of what is installed is never imported; the rest is compiled at its first import, by all CPUs.
    pip_install() {
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "$@"
    }
    # The pip that a Python brings knows dependency groups from 25.1 on.
    .venv/bin/python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' ||
        pip_install --upgrade 'pip>=25.1'
    # shellcheck disable=SC2086 - a flag and a name for each group
    pip_install -e ".${extras:+[$extras]}" $(echo "$groups" | tr ',' '\n' | sed '/./s/^/--group /')
    echo "$wanted" > "$stamp"
fi
