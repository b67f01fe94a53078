# What is wanted of this node: its metadata.

read_metadata() {
    keys=$(metadata attributes/)
    runtime=$(checked dask-runtime 'standalone|yarn' "standalone, yarn" standalone)
    role=$(checked dataproc-role 'Master|Worker' "Master, Worker" "")
    master=$(checked dataproc-master '[a-z0-9][-a-z0-9.]*' "the name of the first master" "")
    if [[ -z $role || -z $master ]]; then
        fail "metadata dataproc-role ('$role') and dataproc-master ('$master') must be there" \
            "this runs on nodes of Dataproc alone"
    fi
    node=$(metadata name)
    worker_count=$(checked dataproc-worker-count '[0-9]+' "a number" 1)

    environment=$(checked dask-environment '/[-A-Za-z0-9_./]+' "an absolute path" "$DEFAULT_ENVIRONMENT")
    version=$(checked dask-version '[0-9]{4}\.[0-9]+\.[0-9]+' "a version of Dask as 2026.8.0" "")
    packages=$(checked dask-packages '([A-Za-z0-9][^[:space:]]*[[:space:]]*)*' "requirements of pip, separated by blanks")
    requirements=$(checked dask-requirements 'gs://[^[:space:]]+' "gs:// URI of a requirements file" "")
    wheelhouse=$(checked dask-wheelhouse 'gs://[^[:space:]]+' "gs:// URI of a folder of wheels" "")
    index=$(checked dask-index-url 'https?://[^[:space:]]+' "http(s):// URL of a package index" "")
    base_python=$(checked dask-python '/[^[:space:]]+' "absolute path of a Python" "")

    elastic=$(checked dask-elastic 'gs://[^[:space:]]+' "gs:// URI of our runtime" "")
    scheduler_port=$(checked dask-scheduler-port '[0-9]+' "a port" 8786)
    dashboard_port=$(checked dask-dashboard-port '[0-9]+' "a port" 8787)
    on_master=$(checked dask-worker-on-master 'auto|true|false' "auto, true, false" auto)
    threads=$(checked dask-worker-threads '[1-9][0-9]*' "a number of threads" "")
    memory=$(checked dask-worker-memory '[0-9]+(\.[0-9]+)?([kMGT]i?B|B)?' "bytes, or as 12GiB" "")
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
