#!/usr/bin/env bash
# Slurm and MUNGE from Debian's or Ubuntu's packages, where they are missing and can be installed.
set -euo pipefail

missing=()
for binary in munged slurmctld slurmd sbatch; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$binary" >/dev/null || missing+=("$binary")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "no ${missing[*]} here, and no root with apt-get to install slurm-wlm and munge: the cluster tests will skip" >&2
    exit 0
fi
echo "installing slurm-wlm and munge" >&2
trouble() { echo "slurm-wlm and munge could not be installed: the cluster tests will skip" >&2; exit 0; }
apt-get update -qq || trouble
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null || trouble
