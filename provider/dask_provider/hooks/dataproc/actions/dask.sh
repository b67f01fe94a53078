#!/bin/bash
# Initialization action of Dataproc: Dask on the nodes of a cluster. With the runtime "standalone" the scheduler on the
# first master and a worker on every worker, as systemd services; with "yarn" what jobs need to start them on YARN.
# Metadata keys, log files and how to make a wheelhouse or an image: README.md.
#
# May run again at any time: what is right is left alone, a scheduler that works above all.
set -euo pipefail
shopt -s inherit_errexit

readonly SELF=dask.sh
readonly DEFAULT_ENVIRONMENT=/opt/dask
readonly HELPER=/usr/local/lib/dask/node.py
readonly ELASTIC=/usr/local/lib/dask/elastic.py
readonly RUNTIME=/usr/local/lib/dask/dask_job_runtime.pyz
readonly VARIABLES=/etc/default/dask
readonly UNITS=/etc/systemd/system
# What Dask needs on YARN beside itself
readonly YARN_PACKAGES=(dask-yarn==0.9 skein==0.8.2 "setuptools==80.9.0;python_version>='3.12'")

# include common.sh
# include dask/files.sh
# include dask/wanted.sh
# include dask/packages.sh
# include dask/services.sh
# include dask/gateway.sh
# include dask/yarn.sh

main() {
    changed=false
    read_metadata
    if [[ $runtime == yarn ]]; then
        say "$runtime: node $node, $role"
        prepare_environment
        prepare_yarn
        return
    fi
    if ! has_scheduler && ! has_worker; then
        say "nothing to do on $node ($role; the scheduler is on $master)"
        return
    fi
    say "$runtime: node $node, $role, the scheduler is on $master"
    prepare_environment
    run_services
}

run_services() {
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
        publish_dashboard
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
