#!/bin/sh
# One scheduler, two servers, two workers on this host: sh run.sh ./regression
set -e
export DMLC_NUM_SERVER=2 DMLC_NUM_WORKER=2 DMLC_PS_ROOT_URI=127.0.0.1 DMLC_PS_ROOT_PORT=${DMLC_PS_ROOT_PORT:-8123} DMLC_NODE_HOST=127.0.0.1
nodes=
for role in scheduler server server worker worker; do
    DMLC_ROLE=$role "$1" &
    nodes="$nodes $!"
done
for node in $nodes; do wait "$node"; done
