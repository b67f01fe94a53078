#!/bin/bash
# Initialization action of Dataproc: Dask on the nodes of a cluster, the scheduler on the first master and a worker on
# every worker, as systemd services. Metadata keys, log files and how to make a wheelhouse or an image: README.md.
#
# May run again at any time: what is right is left alone, a scheduler that works above all.
set -euo pipefail
shopt -s inherit_errexit

readonly SELF=dask.sh
readonly DEFAULT_ENVIRONMENT=/opt/dask
readonly HELPER=/usr/local/lib/dask/node.py
readonly VARIABLES=/etc/default/dask
readonly UNITS=/etc/systemd/system

say() { echo "$SELF: $*"; }

# fail WHAT REMEDY
fail() {
    echo "$SELF: ERROR: $1" >&2
    echo "$SELF: remedy: $2" >&2
    exit 1
}

# metadata PATH: what the metadata server has there. What cannot be read is not taken for missing.
metadata() {
    local pause
    for pause in 0 1 2 4; do
        sleep "$pause"
        if /usr/share/google/get_metadata_value "$1"; then return; fi
    done
    fail "the metadata server does not tell '$1'" "this runs on nodes of Dataproc alone; there, create the cluster again"
}

# attribute KEY [DEFAULT]: "keys" are those that the instance has.
attribute() {
    local value=""
    if grep --quiet --line-regexp --fixed-strings -e "$1" <<<"$keys"; then value=$(metadata "attributes/$1"); fi
    printf '%s\n' "${value:-${2:-}}"
}

# checked KEY PATTERN ALLOWED [DEFAULT]: a metadata attribute that must match, or be empty where the default is.
checked() {
    local value
    value=$(attribute "$1" "${4:-}")
    if [[ -n $value && ! $value =~ ^($2)$ ]]; then
        fail "metadata $1: '$value'; allowed: $3" "create the cluster with another value of $1"
    fi
    printf '%s\n' "$value"
}

# put PATH [MODE]: write standard input there, and note in "changed" if that makes a difference.
put() {
    local new
    mkdir -p "$(dirname "$1")"
    new=$(mktemp "$1.XXXXXX")
    cat >"$new"
    chmod "${2:-644}" "$new"
    if cmp --silent "$new" "$1"; then
        rm "$new"
    else
        mv "$new" "$1"
        changed=true
    fi
}

# --- What is wanted --------------------------------------------------------------------------------------------------

read_metadata() {
    keys=$(metadata attributes/)
    runtime=$(checked dask-runtime 'standalone' "standalone" standalone)
    role=$(checked dataproc-role 'Master|Worker' "Master, Worker")
    master=$(checked dataproc-master '[a-z0-9][-a-z0-9.]*' "the name of the first master")
    if [[ -z $role || -z $master ]]; then
        fail "metadata dataproc-role ('$role') and dataproc-master ('$master') must be there" \
            "this runs on nodes of Dataproc alone"
    fi
    node=$(metadata name)
    worker_count=$(checked dataproc-worker-count '[0-9]+' "a number" 1)

    environment=$(checked dask-environment '/[-A-Za-z0-9_./]+' "an absolute path" "$DEFAULT_ENVIRONMENT")
    version=$(checked dask-version '[0-9]{4}\.[0-9]+\.[0-9]+' "a version of Dask as 2026.8.0")
    packages=$(checked dask-packages '([A-Za-z0-9][^[:space:]]*[[:space:]]*)*' "requirements of pip, separated by blanks")
    requirements=$(checked dask-requirements 'gs://[^[:space:]]+' "gs:// URI of a requirements file")
    wheelhouse=$(checked dask-wheelhouse 'gs://[^[:space:]]+' "gs:// URI of a folder of wheels")
    index=$(checked dask-index-url 'https?://[^[:space:]]+' "http(s):// URL of a package index")
    base_python=$(checked dask-python '/[^[:space:]]+' "absolute path of a Python")

    scheduler_port=$(checked dask-scheduler-port '[0-9]+' "a port" 8786)
    dashboard_port=$(checked dask-dashboard-port '[0-9]+' "a port" 8787)
    on_master=$(checked dask-worker-on-master 'auto|true|false' "auto, true, false" auto)
    threads=$(checked dask-worker-threads '[1-9][0-9]*' "a number of threads")
    memory=$(checked dask-worker-memory '[0-9]+(\.[0-9]+)?([kMGT]i?B|B)?' "bytes, or as 12GiB")
    account=$(checked dask-user '[a-z_][-a-z0-9_]*' "the name of an account" root)
    timeout=$(checked dask-timeout '[1-9][0-9]*' "seconds" 300)
    variables=$(checked dask-env "([A-Za-z_][A-Za-z0-9_]*=[^'[:cntrl:]]*[[:cntrl:]]*)*" \
        "lines of NAME=VALUE without single quotes")
}

has_scheduler() { [[ $role == Master && $node == "${master%%.*}" ]]; }

has_worker() {
    case $role-$on_master in
        Worker-*) true ;;
        Master-true) true ;;
        Master-auto) ((worker_count == 0)) ;;
        *) false ;;
    esac
}

# --- Packages --------------------------------------------------------------------------------------------------------

# What the environment was made from; beside it, and not in it, lies the sign that it is unfinished.
wanted() { printf '%s\n' "version=$version" "packages=$packages" "requirements=$requirements" "python=$base_python"; }

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

# fetch URI TARGET KEY
fetch() {
    local -a copy=(gsutil -q -m cp)
    if command -v gcloud >/dev/null; then copy=(gcloud storage cp --no-user-output-enabled); fi
    "${copy[@]}" "$1" "$2" || fail "metadata $3: $1 cannot be read" \
        "does it exist, and may the cluster's service account read its bucket (roles/storage.objectViewer)?"
}

# --- Services --------------------------------------------------------------------------------------------------------

# Variables of both services. The scheduler's routes are Dask's own, and the API that is asked for workers and idleness.
write_variables() {
    local routes="" name line text
    for name in scheduler.prometheus scheduler.info scheduler.json scheduler.api health proxy statics; do
        routes+=${routes:+,}\"distributed.http.$name\"
    done
    text="# written by $SELF"$'\n'"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES='[$routes]'"
    while IFS= read -r line; do
        if [[ -n $line ]]; then text+=$'\n'"${line%%=*}='${line#*=}'"; fi
    done <<<"$variables"
    put "$VARIABLES" 600 <<<"$text"
}

write_helper() {
    put "$HELPER" <<'HELPER'
# Written by dask.sh. What its services and its own checks ask of Dask; the standard library alone.
import json
import signal
import subprocess
import sys
import time
import urllib.request


def ask(url, body=None, timeout=5):
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def identity(url):
    """The id of the scheduler: another one after each of its starts. None while it does not answer."""
    try:
        return ask(f"{url}/json/identity.json")["id"]
    except (OSError, ValueError, KeyError):
        return None


def workers(url, name):
    found = ask(f"{url}/api/v1/get_workers")["workers"]
    return [worker["address"] for worker in found if str(worker["name"]) == name]


def scheduler(url):
    """Exit code 0: it answers, and so does its API."""
    try:
        ask(f"{url}/api/v1/get_workers")
    except (OSError, ValueError) as error:
        sys.exit(f"{url}: {error}")


def joined(url, name):
    """Exit code 0: the scheduler has the worker of this name."""
    try:
        sys.exit(not workers(url, name))
    except (OSError, ValueError) as error:
        sys.exit(f"{url}: {error}")


def work(url, *command):
    """Run a worker for as long as the scheduler wants it.

    A worker ends with exit code 0 both when it was retired and when its scheduler is gone. Only in the second case it
    shall start again, so that a scheduler that comes back has workers.
    """
    ended = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    while (served := identity(url)) is None:
        time.sleep(1)
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: (ended.append(number), process.terminate()))
    code = process.wait()
    if ended:
        sys.exit(0)
    if code == 0 and identity(url) != served:
        sys.exit("the scheduler of this worker is gone")
    sys.exit(code if code >= 0 else 128 - code)


def retire(url, name, seconds):
    """Move the results of this node's worker to others, and let it get no new tasks. Never fails: the node ends."""
    try:
        addresses = workers(url, name)
        left = ask(f"{url}/api/v1/retire_workers", {"workers": addresses}, float(seconds)) if addresses else {}
        print(f"retire: {len(left)} of {len(addresses)} workers of {name} handed over what they had", flush=True)
    except (OSError, ValueError) as error:
        print(f"retire: {name} ends without handing over: {error}", flush=True)


if __name__ == "__main__":
    {"scheduler": scheduler, "joined": joined, "work": work, "retire": retire}[sys.argv[1]](*sys.argv[2:])
HELPER
}

# prepare_account DIRECTORY
prepare_account() {
    if ! id "$account" >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/dask --shell /usr/sbin/nologin "$account" ||
            fail "metadata dask-user: the account '$account' cannot be made" "name one that the image has"
    fi
    chown "$account" "$1"
    if ! runuser -u "$account" -- "$environment/bin/python" -I -c '' 2>/dev/null; then
        fail "metadata dask-user: '$account' may not run $environment/bin/python" \
            "let every account read that environment, and the Python that it was made with"
    fi
}

# write_unit NAME DESCRIPTION LINE…: lines of [Service] beside those that both services have.
write_unit() {
    local name=$1 description=$2
    shift 2
    put "$UNITS/$name.service" <<UNIT
# written by $SELF
[Unit]
Description=$description
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User=$account
WorkingDirectory=$directory
EnvironmentFile=$VARIABLES
$(printf '%s\n' "$@")
RestartSec=2
KillMode=mixed
LimitNOFILE=65536
StandardOutput=append:/var/log/$name.log
StandardError=append:/var/log/$name.log

[Install]
WantedBy=multi-user.target
UNIT
}

write_scheduler() {
    write_unit dask-scheduler "Dask scheduler" \
        "ExecStart=$environment/bin/python -m dask scheduler --port $scheduler_port --dashboard-address :$dashboard_port" \
        "Restart=always" \
        "TimeoutStopSec=20"
}

# On stop, also of the whole machine: first what it has goes to others, within the 90 s that Compute Engine gives.
write_worker() {
    local command=("$environment/bin/python" -m dask worker "${master}:$scheduler_port" --name "$node")
    command+=(--nthreads "${threads:-$(getconf _NPROCESSORS_ONLN)}" --memory-limit "${memory:-$(share_of_memory)}")
    command+=(--local-directory "$directory" --no-dashboard --dashboard-address ":$((dashboard_port + 1))")
    write_unit dask-worker "Dask worker" \
        "ExecStart=$environment/bin/python -I $HELPER work $url ${command[*]}" \
        "ExecStop=$environment/bin/python -I $HELPER retire $url $node 60" \
        "Restart=on-failure" \
        "TimeoutStopSec=75"
}

# Bytes for the worker. The rest is for the system and for the daemons of Hadoop, of which a master has more.
share_of_memory() {
    local percent=85 total
    if [[ $role == Master ]]; then percent=60; fi
    total=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
    echo $((total * 1024 * percent / 100))
}

# Dataproc mounts local SSDs at /mnt/1 and so on.
local_directory() {
    local disk
    for disk in /mnt/[0-9]*; do
        if mountpoint --quiet "$disk"; then
            echo "$disk/dask"
            return
        fi
    done
    echo /var/lib/dask
}

# A service whose files are as they were is not restarted.
start() {
    local verb=start
    if [[ $changed == true ]]; then verb=restart; fi
    systemctl daemon-reload
    if ! { systemctl enable --quiet "$1" && systemctl "$verb" "$1"; }; then
        give_up "$1" "the service $1 cannot be started" "what systemd says is above"
    fi
}

# await NAME FAULT REMEDY QUESTION…: until the helper says yes. A service that ends again and again is not waited for.
await() {
    local name=$1 fault=$2 remedy=$3 until=$((SECONDS + timeout)) before
    shift 3
    before=$(systemctl show -p NRestarts --value "$name")
    until "$environment/bin/python" -I "$HELPER" "$@" 2>/dev/null; do
        if (($(systemctl show -p NRestarts --value "$name") - before >= 2)); then
            give_up "$name" "$fault: the service $name ends again and again" "its log is above, in /var/log/$name.log"
        elif ((SECONDS >= until)); then
            give_up "$name" "$fault within $timeout s (metadata dask-timeout)" "$remedy"
        fi
        sleep 0.5
    done
}

give_up() {
    echo "--- systemctl status $1"
    systemctl status --no-pager "$1" || true
    echo "--- the end of /var/log/$1.log"
    tail -n 120 "/var/log/$1.log" || true
    echo "---"
    fail "$2" "$3"
}

main() {
    changed=false
    read_metadata
    if ! has_scheduler && ! has_worker; then
        say "nothing to do on $node ($role; the scheduler is on $master)"
        return
    fi
    say "$runtime: node $node, $role, the scheduler is on $master"
    prepare_environment

    url=http://$master:$dashboard_port
    directory=$(local_directory)
    mkdir -p "$directory"
    prepare_account "$directory"
    write_variables
    write_helper
    if has_scheduler; then
        write_scheduler
        start dask-scheduler
        await dask-scheduler "the scheduler does not answer at $url" \
            "is the port taken by another program of the image?" scheduler "$url"
        say "the scheduler answers at $master:$scheduler_port, its dashboard and API at $url"
    fi
    if has_worker; then
        write_worker
        start dask-worker
        await dask-worker "the worker $node has not joined the scheduler at $url" \
            "see this action's log on $master; the firewall must let nodes reach each other, ports \
$scheduler_port and $dashboard_port of $master above all" joined "$url" "$node"
        say "the worker $node has joined, local directory $directory"
    fi
}

main
