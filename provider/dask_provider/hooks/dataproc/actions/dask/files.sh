# Files that come here.

# put PATH [MODE]: write standard input there, and note in "changed" if that makes a difference.
put() {
    local new
    mkdir -p "$(dirname "$1")"
    new=$(mktemp "$1.XXXXXX")
    cat >"$new"
    chmod "${2:-644}" "$new"
    if cmp --silent "$new" "$1"; then
        rm "$new"
    else
        mv "$new" "$1"
        changed=true
    fi
}

# fetch URI TARGET KEY
fetch() {
    local -a copy=(gsutil -q -m cp)
    if command -v gcloud >/dev/null; then copy=(gcloud storage cp --no-user-output-enabled); fi
    "${copy[@]}" "$1" "$2" || fail "metadata $3: $1 cannot be read" \
        "does it exist, and may the cluster's service account read its bucket (roles/storage.objectViewer)?"
}
