#!/bin/sh
# workflow/venv.sh FOLDER [PYTHON]: a virtual environment in FOLDER (relative), of PYTHON or of a Python that fits.
# A whole one is left alone. One that was left half-made, belongs to another Python, or was copied or moved from
# elsewhere is made again; a folder that is none is not touched.
set -eu
folder=$1
python=${2:-}

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

supported() { # as pyproject.toml says, which also says why
    case $(version "$1") in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac
}

whole() { # its pip was made for this place, belongs to this Python, and runs
    [ "$(version "$folder/bin/python")" = "$(version "$python")" ] &&
        head -n 2 "$folder/bin/pip" | grep -qF "$(pwd -P)/$folder/bin/python" &&
        "$folder/bin/pip" --version
}

if [ -z "$python" ]; then # 3.11 first: the whole suite runs on it
    for candidate in "$folder/bin/python" python3.11 python3.12 python3.13 python3; do
        if supported "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
if ! supported "${python:-python3}"; then
    found=$(version "${python:-python3}")
    echo "rankrepro needs Python 3.11, 3.12 or 3.13; ${python:-python3} is ${found:-not there}." \
        "Install one, or name it: make PYTHON=python3.12" >&2
    exit 1
fi

whole >/dev/null 2>&1 && exit
if [ -n "$(ls -A "$folder" 2>/dev/null)" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    echo "$folder is no virtual environment. Move it away, or name another folder: make VENV=environment" >&2
    exit 1
fi
case $python in "$folder"/*) # about to be cleared: the one that it was made with
    python=$("$python" -c 'import sys; print(sys._base_executable)') ;;
esac
"$python" -m venv --clear "$folder"
