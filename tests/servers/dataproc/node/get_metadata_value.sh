#!/bin/bash
# Prints a value of the instance, or else of the project; its exit code is that of curl: 22 where there is no such value.
base=http://metadata.google.internal/computeMetadata/v1
ask() { curl --fail --silent --max-time 10 --header "Metadata-Flavor: Google" "$base/$1"; }
ask "instance/$1" || ask "project/$1"
