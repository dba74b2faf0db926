"""A Slurm of one node on this machine: munged, slurmctld and slurmd of Debian, all of it in one directory.

Needs root, since slurmd starts jobs as their owners. There are no cgroups: memory is watched by polling
(`jobacct_gather/linux` with OverMemoryKill), which is how Slurm does it where cgroups cannot be had.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

CONFIG = """
ClusterName=synthct-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={place}/jobs.txt
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=5,batch_sched_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=1001
MpiDefault=none
KillWait=20
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The daemons, from `start` to `stop`. `environment` is what its commands and the engine need to find it."""

    def __init__(self, place: Path, cpus: int, memory: int):
        """`place`: an empty directory, its path without spaces; `memory` in MB."""
        self.place = place
        self.processes: list[subprocess.Popen] = []
        values = {"place": place, "host": socket.gethostname().split(".")[0], "cpus": cpus, "memory": memory}
        config = CONFIG.format(port=free_port(), other_port=free_port(), **values)
        (place / "slurm.conf").write_text(config)
        (place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.environment = os.environ | {"SLURM_CONF": str(place / "slurm.conf")}
        self.environment["PATH"] += ":/usr/sbin:/sbin"

    def start(self):
        """Start the daemons and wait until the node takes jobs. Raises RuntimeError with the logs' ends otherwise."""
        (self.place / "munge.key").write_bytes(os.urandom(128))
        (self.place / "munge.key").chmod(0o400)
        for name in ("state", "spool"):
            (self.place / name).mkdir()
        # munged wants no directory above it that others may write; --force takes the temporary one as it is
        munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        files = [f"--{option}={self.place / name}" for option, name in munge.items()]
        self._daemon("munged", "--foreground", "--force", *files)
        self._until(lambda: (self.place / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        self._until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), "slurmctld and slurmd")

    def ask(self, *command: str) -> str:
        """What a Slurm command says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def jobs(self) -> dict[str, str]:
        """{job id: its name} of those that wait or run."""
        said = self.ask("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%A %j")
        return dict(line.split(" ", 1) for line in said.splitlines() if line[:1].isdigit())

    def ended(self) -> list[dict[str, str]]:
        """Of every job that ended, what Slurm wrote down: JobId, Name, JobState, TimeLimit, NodeCnt …"""
        file = self.place / "jobs.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]

    def stop(self):
        """End all jobs, then the daemons."""
        self.ask("scancel", "--full", "--state=RUNNING")
        self.ask("scancel", "--state=PENDING")
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    def _daemon(self, *command: str):
        with open(self.place / f"{command[0]}.out", "w") as out:
            process = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.processes.append(process)

    def _until(self, ready, what: str, seconds: int = 60):
        end = time.monotonic() + seconds
        while not ready():
            dead = [process.args[0] for process in self.processes if process.poll() is not None]
            if dead or time.monotonic() > end:
                logs = [path for path in self.place.glob("*.out") if path.stat().st_size]
                said = "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in logs)
                raise RuntimeError(f"{what} did not start ({', '.join(dead) or 'time is up'})\n{said}")
            time.sleep(0.2)


def missing() -> list[str]:
    """The programs that this machine lacks."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
