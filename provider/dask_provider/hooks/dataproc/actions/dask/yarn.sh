# Dask on YARN: each job brings scheduler and workers, the nodes have the packages alone.

readonly YARN_SIDE=/usr/local/lib/dask/yarn
readonly DASK_SETTINGS=/etc/dask/yarn.yaml

# dask-yarn stopped at distributed 2022.2: with this module beside it, it works on the current one.
prepare_yarn() {
    command -v yarn >/dev/null || fail "metadata dask-runtime: yarn, but this node has no 'yarn'" \
        "create the cluster from an image of Dataproc that has Hadoop, or use dask-runtime=standalone"
    put "$YARN_SIDE/sitecustomize.py" <<'SITECUSTOMIZE'
# include yarn_compat.py
SITECUSTOMIZE
    if ! PYTHONPATH=$YARN_SIDE "$environment/bin/python" -c 'import skein; from dask_yarn import YarnCluster'; then
        fail "$environment has no dask-yarn and skein that work; what Python says is above" \
            "install ${YARN_PACKAGES[*]} into that environment of the image"
    fi
    if [[ -w $("$environment/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))') ]]; then
        "$environment/bin/python" -I "$YARN_SIDE/sitecustomize.py" install
    else
        say "$environment cannot be written: scripts that import dask_yarn need PYTHONPATH=$YARN_SIDE (our jobs have it)"
    fi
    # What a script without any settings gets: YarnCluster() alone is enough.
    put "$DASK_SETTINGS" <<SETTINGS
# written by $SELF
yarn:
  environment: python://$environment/bin/python
SETTINGS
    say "jobs can start Dask on YARN with $environment/bin/python"
}
