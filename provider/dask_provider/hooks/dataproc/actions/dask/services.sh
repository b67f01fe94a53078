# Scheduler and worker as services of systemd.

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
# include dask/node.py
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

# What asks Dataproc for more and fewer workers lives in the scheduler, so for as long as the cluster.
write_elastic() {
    local scratch
    scratch=$(mktemp -d)
    fetch "$elastic" "$scratch/runtime" dask-elastic
    "$environment/bin/python" -I -m zipfile -t "$scratch/runtime" >/dev/null 2>&1 ||
        fail "metadata dask-elastic: $elastic is not our runtime" "upload the .pyz that lies beside this script's source"
    put "$RUNTIME" <"$scratch/runtime"
    rm -r "$scratch"
    put "$ELASTIC" <<PRELOAD
import sys

sys.path.append("$RUNTIME")
from dask_job_runtime.dataproc_elastic import dask_setup, dask_teardown
PRELOAD
}

write_scheduler() {
    local command="$environment/bin/python -m dask scheduler --port $scheduler_port --dashboard-address :$dashboard_port"
    command+=" --preload $HELPER"
    if [[ -n $elastic ]]; then
        write_elastic
        command+=" --preload $ELASTIC"
    fi
    write_unit dask-scheduler "Dask scheduler" \
        "ExecStart=$command" \
        "Restart=always" \
        "TimeoutStopSec=20"
}

# On stop, also of the whole machine: first what it has goes to others, within the 90 s that Compute Engine gives.
write_worker() {
    local command=("$environment/bin/python" -m dask worker "${master}:$scheduler_port" --name "$node")
    command+=(--nthreads "${threads:-$(getconf _NPROCESSORS_ONLN)}" --memory-limit "${memory:-$(share_of_memory)}")
    command+=(--local-directory "$directory" --no-dashboard --dashboard-address ":$((dashboard_port + 1))")
    write_unit dask-worker "Dask worker" \
        "ExecStart=$environment/bin/python -I $HELPER work $url $node ${command[*]}" \
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
