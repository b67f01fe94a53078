#!/bin/sh
# create -> job -> store -> delete with kubectl, as one would do it by hand. After each step a line "<step> <seconds
# since 1970>"; a first line "begin".
# $1 name of cluster and job, $2 manifest of the cluster, $3 of the job, $4 pods of the cluster, $5 what the job leaves,
# $6 where it is stored
set -eu

said() { echo "$1 $(date +%s.%N)"; }
of_cluster="dask.org/cluster-name=$1"

said begin
kubectl apply -f "$2" >/dev/null
until [ "$(kubectl get pods -l "$of_cluster" -o name | wc -l)" -ge "$4" ]; do sleep 0.2; done
kubectl wait --for=condition=Ready pod -l "$of_cluster" --timeout=120s >/dev/null
said create
kubectl apply -f "$3" >/dev/null
kubectl wait --for=condition=Complete "job/$1" --timeout=120s >/dev/null
kubectl logs "job/$1" >/dev/null
said job
cp -r "$5" "$6"
said store
kubectl delete "job/$1" "daskcluster/$1" >/dev/null
said delete
