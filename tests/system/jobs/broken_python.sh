#!/bin/sh
# A Python with which no cluster can start.
echo "this Python is broken"
exit 7
