"""A Slurm of two nodes on this machine: real daemons on 127.0.0.1, all their state in one folder, no accounting.

As a script it runs a command inside such a cluster, which is how to try the profile without a site:

    python tests/cluster/slurm_cluster.py snakemake --profile profiles/slurm --config papers=baselines
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

NODES = ("n1", "n2")
BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian's daemons are in sbin

CONF = """
ClusterName=rankrepro
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket,cred_expire=20
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdTimeout=15
KillWait=5
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=16000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class CannotStart(Exception):
    """Why there is no cluster here."""


def missing() -> str:
    """Why a cluster cannot be started here; empty if it can."""
    absent = [b for b in BINARIES if not shutil.which(b, path=PATH)]
    if absent:
        return f"no {', '.join(absent)}: `make test-cluster` as root on Debian or Ubuntu installs slurm-wlm and munge"
    if os.geteuid() != 0:
        return "not root: slurmd starts jobs under their owner's name"
    return ""


class Cluster:
    """`with Cluster(folder) as cluster:` starts the daemons and ends them, and whatever jobs they had, at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.chmod(0o755)
        self.conf = self.folder / "slurm.conf"
        self.env = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": f"{self.folder / 'bin'}:{PATH}"}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        if why := missing():
            raise CannotStart(why)
        try:
            self._munge()
            self._configure()
            self._start("slurmctld", "slurmctld", "-D", "-i")
            for node in NODES:
                self.start(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        for daemon in reversed(list(self.daemons.values())):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    # --- what a test does to it ---

    def start(self, node: str) -> None:
        """Start (again) the slurmd of a node and wait until the controller takes it for usable."""
        self._start(node, "slurmd", "-D", "-N", node)
        usable = {"idle", "mixed", "allocated"}
        wait(lambda: self.run("sinfo", "-h", "-n", node, "-o", "%T").strip() in usable, 20, f"{node} to come up", self)

    def kill(self, node: str) -> None:
        """A node loses its power: its slurmd and all processes of its jobs are killed."""
        jobs = self.run("squeue", "-h", "-w", node, "-o", "%A").split()
        self.daemons[node].kill()
        self.daemons.pop(node).wait()
        self._end(jobs)

    def run(self, *command: str) -> str:
        """Standard output of a Slurm command."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """What `scontrol show job` says of each job the controller remembers, in these states (all if none)."""
        shown = self.run("scontrol", "--oneliner", "--detail", "show", "job").splitlines()
        known = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in shown]
        return [job for job in known if "JobId" in job and (not states or job["JobState"] in states)]

    def logs(self) -> str:
        """The ends of the daemons' logs, for the message of a failed test."""
        files = sorted(self.folder.rglob("*.log"))
        return "\n".join(f"--- {f.name}\n" + "\n".join(f.read_text().splitlines()[-15:]) for f in files)

    # --- daemons ---

    def _munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid", "seed-file": folder / "seed"}
        self._start(
            "munged", "munged", "--foreground", "--force",
            *(f"--{option}={file}" for option, file in files.items()),
        )  # fmt: skip
        wait(lambda: (folder / "socket").exists(), 20, "munged to open its socket", self)

    def _configure(self) -> None:
        for name in ("state", *(f"spool-{n}" for n in NODES)):
            (self.folder / name).mkdir()
        (self.folder / "jobs.txt").touch()
        text = CONF.format(host=socket.gethostname().split(".")[0], ports=_ports(3), folder=self.folder)
        self.conf.write_text(text)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # the plugin calls srun without any SLURM_* variable: a site has its configuration in the usual place
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {shutil.which("srun", path=PATH)} "$@"\n')
        srun.chmod(0o755)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env=self.env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _end(self, jobs: Collection[str] | None = None) -> None:
        for pid in self._processes(jobs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes(self, jobs: Collection[str] | None = None) -> Iterator[int]:
        """The processes of jobs (of all, if none are named): their environment names this cluster and their job.

        A slurmstepd names the job in its command line instead: `slurmstepd: [7.batch]`.
        """
        ours = f"SLURM_CONF={self.conf}".encode()
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                variables = (proc / "environ").read_bytes().split(b"\0")
                command = (proc / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            ids = [v[13:].decode() for v in variables if v.startswith(b"SLURM_JOB_ID=")]
            ids += re.findall(r"^slurmstepd: \[(\d+)", command)
            if ours in variables and ids and (jobs is None or ids[0] in jobs):
                yield int(proc.name)


def wait(condition: Callable[[], object], seconds: float, what: str, cluster: Cluster | None = None) -> None:
    """Wait until `condition` is true, or raise a TimeoutError that says what was awaited."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}\n{cluster.logs() if cluster else ''}")
        time.sleep(0.3)


def _die_with_parent() -> None:
    """In the child: the kernel kills it when this process is gone, also where nothing could be tidied up."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _ports(n: int) -> list[int]:
    """Free ports of 127.0.0.1."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def main(command: list[str]) -> int:
    if not command:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder)) as cluster:
        return subprocess.call(command, env=cluster.env)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CannotStart as error:
        sys.exit(f"no cluster here: {error}")
