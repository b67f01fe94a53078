#!/bin/sh
# A Python that takes its time: the cluster that uses it is long in coming.
exec sleep 300
