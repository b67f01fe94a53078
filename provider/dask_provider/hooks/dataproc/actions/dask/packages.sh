# The environment with Dask in it: made here, or brought by the image.

# What the environment was made from; beside it, and not in it, lies the sign that it is unfinished.
wanted() { printf '%s\n' "version=$version" "packages=$packages" "requirements=$requirements" "python=$base_python" \
    "runtime=$runtime"; }

installed_version() {
    "$environment/bin/python" -I -c '
from importlib.metadata import version
found = {version(name) for name in ("dask", "distributed")}
print(*sorted(found))' 2>/dev/null
}

prepare_environment() {
    local stamp=$environment/.dask-action found
    if [[ -x $environment/bin/python && ! -e $environment.unfinished ]]; then
        if [[ -e $stamp && $(<"$stamp") != "$(wanted)" ]]; then
            say "$environment was made from other packages: it is made anew"
        elif found=$(installed_version); then
            check_version "$found"
            if [[ ! -e $stamp ]]; then check_image; fi
            say "Dask $found is installed in $environment: nothing to install"
            return
        elif [[ ! -e $stamp ]]; then
            fail "metadata dask-environment: $environment has a Python, but no dask and distributed" \
                "install both into that environment of the image, or name another one"
        fi
    fi
    if [[ -z $version && -z $requirements ]]; then
        fail "metadata dask-version is missing, and $environment/bin/python is not there" \
            "set dask-version (or dask-requirements) to what the job uses, or name the image's dask-environment"
    fi
    install_environment
    found=$(installed_version) || fail "dask and distributed are not among the installed packages" \
        "name both in dask-requirements ($requirements)"
    check_version "$found"
    wanted >"$stamp"
    rm -f "$environment.unfinished"
    say "Dask $found was installed in $environment"
}

check_version() {
    if [[ -n $version && $1 != "$version" ]]; then
        fail "metadata dask-version: $version is wanted, $environment has dask and distributed $1" \
            "build the image with dask==$version and distributed==$version, or set dask-version to what it has"
    fi
}

# An image's environment is its maker's: nothing is added to it, and nothing that is wanted may be missing.
check_image() {
    local lacking
    if [[ -n $requirements ]]; then
        fail "metadata dask-requirements: $requirements is not installed, since $environment comes with the image" \
            "install it into that environment of the image and leave dask-requirements away, or name another \
dask-environment"
    fi
    local -a asked
    read -ra asked <<<"${packages//$'\n'/ }"
    lacking=$("$environment/bin/python" -I -c '
import sys
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement

for text in sys.argv[1:]:
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate():
        continue
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        found = "none"
    if found == "none" or not wanted.specifier.contains(found, prereleases=True):
        print(f"{text} (found: {found})")
' "${asked[@]}") || fail "metadata dask-packages: '$packages' cannot be compared with $environment; see above" \
        "write requirements as pandas==2.3.3"
    if [[ -n $lacking ]]; then
        fail "metadata dask-packages: $environment comes with the image and lacks ${lacking//$'\n'/, }" \
            "install them into that environment of the image, ask for what it has, or name another dask-environment"
    fi
}

install_environment() {
    local python scratch attempt
    local -a extra what=() how=(--disable-pip-version-check --no-input --progress-bar off)
    python=$(find_python)
    scratch=$(mktemp -d)
    mkdir -p "$(dirname "$environment")"
    touch "$environment.unfinished"
    say "making $environment with $("$python" --version)"
    "$python" -m venv --clear "$environment" || fail "$python cannot make a virtual environment" \
        "set dask-python to a Python that has venv and ensurepip, as /opt/conda/default/bin/python"

    if [[ -n $requirements ]]; then
        fetch "$requirements" "$scratch/requirements.txt" dask-requirements
        what+=(-r "$scratch/requirements.txt")
    else
        what+=("dask==$version" "distributed==$version")
    fi
    read -ra extra <<<"${packages//$'\n'/ }"
    what+=("${extra[@]}")
    if [[ $runtime == yarn ]]; then what+=("${YARN_PACKAGES[@]}"); fi
    if [[ -n $wheelhouse ]]; then
        mkdir "$scratch/wheels"
        fetch "${wheelhouse%/}/*" "$scratch/wheels/" dask-wheelhouse
        how+=(--no-index --find-links "$scratch/wheels")
    elif [[ -n $index ]]; then
        how+=(--index-url "$index")
    fi
    for attempt in 1 2 3; do
        if PIP_NO_CACHE_DIR=1 "$environment/bin/python" -m pip install --quiet "${how[@]}" "${what[@]}"; then
            rm -rf "$scratch"
            return
        fi
        # What is missing in a wheelhouse now will be missing later.
        if [[ -n $wheelhouse ]]; then break; fi
        say "installation failed ($attempt of 3)"
        sleep $((attempt * 5))
    done
    rm -rf "$scratch"
    if [[ -n $wheelhouse ]]; then
        fail "metadata dask-wheelhouse: $wheelhouse does not have all of: ${what[*]}" \
            "make it with 'pip download' for $("$python" --version) as README.md says"
    fi
    fail "pip could not install: ${what[*]}" \
        "a cluster without internet needs dask-wheelhouse, an image with Dask, or Cloud NAT"
}

find_python() {
    local python
    for python in ${base_python:-/opt/conda/default/bin/python /usr/bin/python3}; do
        if [[ -x $python ]]; then
            echo "$python"
            return
        fi
    done
    fail "metadata dask-python: '${base_python}' is not on this node" "name a Python that the image has"
}
