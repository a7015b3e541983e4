#!/usr/bin/env bash
# Fetch and unpack COCO's pictures and annotations (2017: 20 GB to load, 40 GB free space needed):
#
#   bash scripts/download_coco.sh [--year 2017|2014] [--root data/coco] [--only annotations|train|val]
#                                 [--base-url URL] [--keep-zips]
#
#   --year       which edition (default 2017)
#   --root       where to put train2017/, val2017/ and annotations/ (default data/coco in the repository)
#   --only       one archive instead of all three; may be given more than once
#   --base-url   a mirror (default http://images.cocodataset.org)
#   --keep-zips  keep the archives after unpacking
#
# Start it again at any time: what is complete is skipped, a cut-off download goes on where it stopped.
# Exit code 1: the server or an archive failed, try again; 2: something for you to change.
set -euo pipefail
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

year=2017
root="$repository/data/coco"
base_url="http://images.cocodataset.org"
only=""
keep_zips=false

say() { printf '==> %s\n' "$*"; }
user_error() { printf 'error: %s\n' "$*" >&2; exit 2; }
failure() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
megabytes() { printf '%d MB' "$((($1 + 999999) / 1000000))"; }
bytes_of() { if [[ -f "$1" ]]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

read_arguments() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
            -h | --help) sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
            --keep-zips) keep_zips=true; shift; continue ;;
            --year | --root | --only | --base-url) ;;
            *) user_error "unknown argument '$1'; see bash scripts/download_coco.sh --help" ;;
        esac
        [[ $# -ge 2 && -n "$2" ]] || user_error "$1 needs a value; see bash scripts/download_coco.sh --help"
        case "$1" in
            --year) year="$2" ;;
            --root) root="${2%/}" ;;
            --base-url) base_url="${2%/}" ;;
            --only) only="$only $2" ;;
        esac
        shift 2
    done
    [[ "$year" == 2017 || "$year" == 2014 ]] || user_error "--year is 2017 or 2014, not '$year'"
    only="${only:-annotations val train}"
    local part
    for part in $only; do
        case "$part" in
            annotations | train | val) ;;
            *) user_error "--only is annotations, train or val, not '$part'" ;;
        esac
    done
}

find_tools() {
    has curl || has wget || user_error "this needs curl or wget; install one of them"
    python=""
    local candidate
    for candidate in python3 python; do
        if has "$candidate" && "$candidate" -c 'import zipfile' >/dev/null 2>&1; then
            python="$candidate"
            break
        fi
    done
    has unzip || [[ -n "$python" ]] || user_error "this needs unzip or Python; install one of them"
}

archive_of() { if [[ "$1" == annotations ]]; then echo "annotations_trainval$year"; else echo "$1$year"; fi; }
url_of() {
    local folder=zips
    [[ "$1" == annotations ]] && folder=annotations
    echo "$base_url/$folder/$(archive_of "$1").zip"
}

# ---------------------------------------------------------------------------------------------- the server

remote_size() { # URL -> bytes
    local answer size
    if has curl; then
        answer="$(curl -sSIL --fail --connect-timeout 20 --retry 2 "$1" 2>&1)" || unreachable "$1" "$answer"
    else
        answer="$(wget --spider --server-response --tries=2 --timeout=20 "$1" 2>&1)" || unreachable "$1" "$answer"
    fi
    # the last one: earlier ones belong to redirections
    size="$(printf '%s\n' "$answer" | tr -d '\r' | awk 'tolower($1) == "content-length:" { n = $2 } END { print n }')"
    [[ "$size" =~ ^[0-9]+$ ]] || failure "$1: the server does not say how large the file is; try another --base-url"
    echo "$size"
}

unreachable() {
    local reason
    reason="$(printf '%s\n' "$2" | tr -d '\r' | grep -iE 'curl: |failed|unable|refused|HTTP/[0-9.]+ [45]' | tail -n 1)" || true
    failure "cannot load $1 (${reason:-no answer}); check the connection, or name a mirror with --base-url"
}

fetch() { # URL FILE: goes on with what FILE holds already
    local progress
    if has curl; then
        progress="--progress-bar"
        [[ -t 2 ]] || progress="-sS"
        curl -fL -C - "$progress" --connect-timeout 20 --retry 5 --retry-delay 2 -o "$2" "$1"
    else
        progress="--progress=bar"
        [[ -t 2 ]] || progress="--no-verbose"
        wget -c "$progress" --timeout=60 --tries=5 -O "$2" "$1"
    fi
}

download() { # URL FILE SIZE
    local have
    have="$(bytes_of "$2")"
    if [[ "$have" -gt "$3" ]]; then
        say "$2 is larger than the server's file, so it is another one: starting over"
        rm -f "$2"
        have=0
    fi
    if [[ "$have" -lt "$3" ]]; then
        if [[ "$have" -gt 0 ]]; then
            say "loading $1: going on after $(megabytes "$have") of $(megabytes "$3")"
        else
            say "loading $1: $(megabytes "$3")"
        fi
        fetch "$1" "$2" || failure "the download of $1 broke off; start this again to go on where it stopped" \
            "(if it stops at once every time, delete $2 first: some servers cannot go on)"
    fi
    have="$(bytes_of "$2")"
    [[ "$have" == "$3" ]] ||
        failure "$2 has $have of $3 bytes; start this again to go on where it stopped"
}

# --------------------------------------------------------------------------------------------- the archives

check_zip() {
    if has unzip; then
        unzip -tqq "$1" >/dev/null 2>&1
    else
        "$python" -c 'import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)' "$1" \
            >/dev/null 2>&1
    fi
}

list_zip() { # the files in it, one a line
    if has unzip; then
        unzip -Z1 "$1"
    else
        "$python" -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$1"
    fi | grep -v '/$'
}

unpack_zip() {
    if has unzip; then
        unzip -qqo "$1" -d "$root"
    else
        "$python" -m zipfile -e "$1" "$root"
    fi
}

count_missing() { # LISTING -> how many of its files are not there, or empty
    local file missing=0
    while IFS= read -r file; do
        [[ -s "$root/$file" ]] || missing=$((missing + 1))
    done <"$1"
    echo "$missing"
}

official_count() {
    case "$1" in
        train2017) echo 118287 ;;
        val2017) echo 5000 ;;
        train2014) echo 82783 ;;
        val2014) echo 40504 ;;
        *) echo 0 ;;
    esac
}

is_complete() { # ARCHIVE: unpacked by this script before, or all its pictures put there by somebody else
    local listing="$root/.$1.files" expected
    if [[ -f "$listing" ]]; then
        [[ "$(count_missing "$listing")" == 0 ]]
        return
    fi
    expected="$(official_count "$1")"
    [[ "$expected" -gt 0 && -d "$root/$1" ]] || return 1
    [[ "$(find "$root/$1/" -name '*.jpg' -size +0 | wc -l)" -eq "$expected" ]]
}

install_archive() { # PART SIZE
    local archive zip listing missing
    archive="$(archive_of "$1")"
    zip="$root/$archive.zip"
    listing="$root/.$archive.files"
    download "$(url_of "$1")" "$zip" "$2"
    say "checking $zip"
    if ! check_zip "$zip"; then
        rm -f "$zip"
        failure "$zip was damaged and has been deleted; start this again to load it anew"
    fi
    say "unpacking $zip"
    unpack_zip "$zip" || failure "cannot unpack $zip into $root, see above; is the disk full?"
    list_zip "$zip" >"$listing.partial"
    missing="$(count_missing "$listing.partial")"
    [[ "$missing" == 0 ]] || failure "$missing of the files in $zip are not in $root; start this again"
    mv "$listing.partial" "$listing"
    [[ "$keep_zips" == true ]] || rm -f "$zip"
    say "$archive: $(wc -l <"$listing" | tr -d ' ') files in $root"
}

# -------------------------------------------------------------------------------------------------- the run

check_space() { # BYTES
    local free
    free="$(df -Pk "$root" | awk 'NR == 2 { print $4 }')"
    [[ "$((free * 1024))" -ge "$1" ]] ||
        user_error "$root has $(megabytes "$((free * 1024))") free, about $(megabytes "$1") are needed for the" \
            "archives and the files in them; make room, or choose another folder with --root"
}

main() {
    read_arguments "$@"
    find_tools
    mkdir -p "$root" 2>/dev/null || user_error "cannot make the folder $root; choose another one with --root"
    [[ -w "$root" ]] || user_error "cannot write into $root; choose another folder with --root"

    local part archive size space=0 todo=""
    for part in $only; do
        archive="$(archive_of "$part")"
        if is_complete "$archive"; then
            say "$archive: complete, nothing to do"
            continue
        fi
        size="$(remote_size "$(url_of "$part")")"
        todo="$todo $part:$size"
        # pictures hardly shrink in an archive, annotations to about a quarter
        if [[ "$part" == annotations ]]; then space=$((space + 4 * size)); else space=$((space + size)); fi
        space=$((space + size - $(bytes_of "$root/$archive.zip")))
    done
    check_space "$space"
    for part in $todo; do
        install_archive "${part%%:*}" "${part##*:}"
    done
    say "COCO $year is ready in $root"
}

main "$@"
