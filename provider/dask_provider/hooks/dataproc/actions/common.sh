# What all our actions begin with. They say who they are: SELF.

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

# checked KEY PATTERN ALLOWED [DEFAULT]: an attribute that must match; with a default "" it may be missing.
checked() {
    local value
    value=$(attribute "$1" "${4:-}")
    if [[ ! $value =~ ^($2)$ && (-n $value || $# -lt 4) ]]; then
        fail "metadata $1: '$value'; allowed: $3" "create the cluster with another value of $1"
    fi
    printf '%s\n' "$value"
}
