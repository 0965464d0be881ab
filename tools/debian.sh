# Unpacks Debian packages without installing them and without root, from the sources of this machine's apt.
# To be sourced; FOLDER is created.

# debian_lists FOLDER "ARCHITECTURE..." [SUITE]: what there is, in this machine's own suites or in another one.
debian_lists() {
    for program in apt-get apt-cache dpkg-deb; do
        command -v $program >/dev/null || { echo "$0: $program is missing: this needs Debian" >&2; return 1; }
    done
    mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
    (cd "$1" && {
        printf 'APT::Architecture "%s";\nAPT::Architectures {' "${2%% *}"
        for arch in $2; do printf '"%s";' "$arch"; done
        # Resolved as on an empty machine; the user who calls downloads.
        printf '};\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Retries "3";\n'
        printf 'Dir::State::Lists "%s/apt/lists";\nDir::Cache "%s/apt/cache";\nDir::State::status "/dev/null";\n' "$PWD" "$PWD"
    } > apt.conf)
    debian_apt "$1" get update || return 1
    if [ $# = 3 ]; then
        mirror=$(debian_apt "$1" get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
        [ -n "$mirror" ] || { echo "$0: this machine's apt knows no mirror of Debian" >&2; return 1; }
        echo "deb $mirror $3 main" > "$1/sources.list"
        (cd "$1" && printf 'Dir::Etc::sourcelist "%s/sources.list";\nDir::Etc::sourceparts "-";\n' "$PWD" >> apt.conf)
        debian_apt "$1" get update || return 1
    fi
}

# debian_apt FOLDER get|cache ARG...: apt with those lists.
debian_apt() {
    folder=$1 program=apt-$2
    shift 2
    "$program" -qq -c "$folder/apt.conf" "$@"
}

# debian_depends FOLDER PACKAGE PREFIX: the first package whose name begins so among those that PACKAGE depends on.
debian_depends() {
    debian_apt "$1" cache depends "$2" 2>/dev/null |
        awk -v prefix="$3" '$1 == "Depends:" && index($2, prefix) == 1 { print $2; exit }'
}

# debian_unpack FOLDER PACKAGE[:ARCHITECTURE]...: their files, in FOLDER/root.
debian_unpack() {
    unpacked=$1
    shift
    # apt downloads to the current folder.
    (cd "$unpacked" && debian_apt . get download "$@") || return 1
    for package in "$unpacked"/*.deb; do
        dpkg-deb -x "$package" "$unpacked/root" || return 1
    done
    rm -rf "$unpacked"/*.deb "$unpacked/apt" "$unpacked/apt.conf" "$unpacked/sources.list"
}
