#!/usr/bin/env bash
# tests/smoke.sh: the newest other Python that is here, in an environment of its own. It must import the package, give
# every method's code the digest that the Python of .venv gives it, make a plan, and run a paper at scale quick: the
# tests' own, which needs no torch. PyTorch's build for another Python may bring gigabytes of CUDA.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

shopt -s nullglob
ours=$(version .venv/bin/python)
other=
for wanted in 3.13 3.12 3.11; do
    for candidate in "python$wanted" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$wanted".*/bin/python; do
        if [[ $wanted != "$ours" && $(version "$candidate") == "$wanted" ]]; then
            other=$candidate
            break 2
        fi
    done
done
if [[ -z $other ]]; then
    echo "SKIPPED the smoke on another Python: there is none beside $ours from 3.11 to 3.13"
    exit
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$other" -m venv "$folder/venv"
python=$folder/venv/bin/python
grep -v '^torch==' requirements.lock >"$folder/lock"
"$python" -m pip install -q --no-deps -r "$folder/lock"
export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1

digests='
from rankrepro.cards import load_cards
from rankrepro.code import Code
code = Code()
for card in load_cards().values():
    for name, node in {**card.stages, **card.arms}.items():
        print(card.key, name, code.digest(node["fn"]))
'
diff <(.venv/bin/python -c "$digests") <("$python" -c "$digests")
"$python" -m rankrepro plan >/dev/null
"$python" -m pytest -q tests/test_code.py tests/test_plan.py tests/test_workflow.py::test_a_paper_is_two_files
echo "Python $wanted: the same digests as Python $ours, a plan, and a paper at scale quick"
