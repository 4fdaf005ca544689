# Sourced by the other scripts. Creates .venv with the package, the extras in EXTRAS and the dependency groups in
# DEPENDENCY_GROUPS, both separated by commas.
# A stamp file has the checksum of pyproject.toml, so that a second run skips the installation.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    # Quoted as one name: a path may have spaces.
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11 python
    fi
    for name in "$@"; do
        # Debian's python3 has `venv`, but not `ensurepip`, which puts pip into the environment.
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.11 or newer with the modules venv and ensurepip was found (tried: $*). On Debian and Ubuntu, run:" \
        "apt install python3-venv. Or specify one: PYTHON=/path/to/python3 $0" >&2
    exit 1
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    rm -rf .venv
    python=$(find_python)
    echo "creating .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
extras=${EXTRAS:-}
groups=${DEPENDENCY_GROUPS:-}
stamp=".venv/set-up-$(echo "$extras+$groups" | tr ',' '-')"
wanted="$(cksum < pyproject.toml) $(pwd)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "installing mpqueue${extras:+[$extras]}${groups:+ with the packages for $groups} into .venv"
    # Most modules are never imported. The others are compiled at their first import, by all CPUs.
    pip_install() {
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "$@"
    }
    # pip supports dependency groups since version 25.1.
    .venv/bin/python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' ||
        pip_install --upgrade 'pip>=25.1'
    # shellcheck disable=SC2086 - each group becomes a flag and a name
    pip_install -e ".${extras:+[$extras]}" $(echo "$groups" | tr ',' '\n' | sed '/./s/^/--group /')
    echo "$wanted" > "$stamp"
fi
