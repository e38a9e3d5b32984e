"""A real Slurm of one node and one A100 gres on loopback, booted in about a second.

Needs no root and no systemd: munged, slurmctld and slurmd run as the calling user under one folder.
There is no accounting database, as on some real clusters; memory limits are kept by polling, not by
cgroups. Packages: `slurm-wlm` and `munge` of Debian or Ubuntu.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import apt_packages

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge"

CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={base}/run/munge.sock,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.log
StateSaveLocation={base}/spool/ctld
SlurmdSpoolDir={base}/spool/slurmd
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=600
SlurmdParameters=config_overrides
KillWait=2
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 \
ThreadsPerCore=1 RealMemory=256000 Gres=gpu:a100:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Return the programs of Slurm that this machine lacks, daemons in sbin included."""
    return [name for name in PROGRAMS if _program(name) is None]


def install() -> str | None:
    """Install Slurm if it is absent and this user may; return why not, or None if it is there."""
    return apt_packages.install("Slurm", INSTALL, missing_programs)


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """The running cluster; `environment` is what its users' programs need."""

    def __init__(self, base: Path) -> None:
        """Start the daemons under `base` and wait until the node is idle."""
        self.base = base
        for folder in ("etc", "run", "log", "bin", "spool/ctld", "spool/slurmd"):
            (base / folder).mkdir(parents=True, mode=0o755)
        base.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        configuration = CONF.format(
            base=base, host=host, user=getpass.getuser(),
            controller_port=_free_port(), node_port=_free_port(),
        )  # fmt: skip
        (base / "etc/slurm.conf").write_text(configuration)
        (base / "etc/gres.conf").write_text(f"NodeName={host} Name=gpu Type=a100 File=/dev/null\n")
        (base / "etc/cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\n")
        # The executor strips SLURM_* from a job's environment before it calls srun.
        wrapper = base / "bin/srun"
        wrapper.write_text(
            f'#!/bin/sh\nSLURM_CONF={base}/etc/slurm.conf exec {_program("srun")} "$@"\n'
        )
        wrapper.chmod(0o755)
        key = base / "etc/munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SNAKEMAKE_"))},
            "SLURM_CONF": f"{base}/etc/slurm.conf",
            "PATH": f"{base}/bin:{os.environ['PATH']}",
        }
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise

    def _boot(self) -> None:
        run, log, conf = self.base / "run", self.base / "log", self.base / "etc/slurm.conf"
        self._daemon(
            "munged", "--key-file", self.base / "etc/munge.key", "--socket", run / "munge.sock",
            "--pid-file", run / "munged.pid", "--log-file", log / "munged.log",
            "--seed-file", run / "munged.seed",
        )  # fmt: skip
        self._daemon("slurmctld", "-f", conf, "-c")
        self._daemon("slurmd", "-f", conf, "-c")
        deadline = time.monotonic() + 30
        while (state := self._node_state()) != "idle":
            if time.monotonic() > deadline:
                raise RuntimeError(f"Slurm's node is {state!r} after 30 s; logs in {log}")
            time.sleep(0.2)

    def _daemon(self, name: str, *arguments: str | Path) -> None:
        program = _program(name)
        assert program is not None, name
        subprocess.run(
            [program, *map(str, arguments)], env=self.environment, check=True, timeout=30,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def _node_state(self) -> str:
        try:
            return self.ask("sinfo", "-h", "-p", "cpu", "-o", "%T", timeout=3).strip()
        except (subprocess.SubprocessError, OSError) as error:
            return type(error).__name__

    def ask(self, *command: str, timeout: float = 20) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return subprocess.run(
            command, env=self.environment, check=True, timeout=timeout,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    def jobs(self) -> list[dict[str, str]]:
        """Return every job that Slurm remembers: id, name, state, what it is and asks for."""
        form = "--format=%i|%j|%T|%P|%k|%r|%b|%C|%m|%l"
        rows = self.ask("squeue", "--states=all", "--noheader", form)
        names = (
            "id", "name", "state", "partition", "comment", "reason", "gres", "cores", "memory",
            "limit",
        )  # fmt: skip
        return [dict(zip(names, row.split("|"), strict=True)) for row in rows.splitlines()]

    def stop(self) -> None:
        """End all jobs and the daemons, by their ids."""
        with suppress(subprocess.SubprocessError, OSError):
            self.ask("scancel", f"--user={getpass.getuser()}")
            deadline = time.monotonic() + 15
            while self.ask("squeue", "--noheader").strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for name in ("slurmd", "slurmctld", "munged"):
            with suppress(OSError, ValueError):
                process = int((self.base / "run" / f"{name}.pid").read_text())
                os.kill(process, signal.SIGTERM)
                deadline = time.monotonic() + 10
                while time.monotonic() < deadline:
                    os.kill(process, 0)
                    time.sleep(0.1)
