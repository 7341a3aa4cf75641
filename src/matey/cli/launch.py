"""`matey launch`: write the batch script for a cluster, and submit it."""

import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from matey.cli import Command
from matey.errors import ConfigError, nearest

log = logging.getLogger("matey")

SHARED_WORK = ("train", "finetune")  # the commands whose processes work on one run
SPANS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")

SCRIPT = """\
#!/bin/bash
{header}

set -u

# The environment that this script was written in.
export PATH={bin}:"$PATH"
{threads}
# The processes meet at the first node, at a port that no other job is likely to use.
export MASTER_HOST MASTER_PORT
MASTER_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# On each node one torchrun, which starts one process per GPU. USR1 is for those processes:
# torchrun ignores it, and so do they until they listen.
on_node() {{
    trap '' USR1
    {torchrun} &
    local agent=$!
    trap 'pkill -USR1 -P '"$agent" USR1
    while kill -0 "$agent" 2>/dev/null; do wait "$agent"; done
    wait "$agent"
}}

# Before the time is up SLURM sends USR1 to this shell, srun passes it on to every node, and the
# training saves and stops. Then the job goes back into the queue, and goes on from there.
told=no
srun --kill-on-bad-exit=1 bash -c "$(declare -f on_node); on_node" &
step=$!
trap 'told=yes; kill -USR1 "$step"' USR1
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?
if [ "$told" = yes ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


@dataclass(frozen=True)
class Job:
    """A SLURM job for one `train` or `finetune` command.

    `time` and `notice` are in seconds: how long the job may take, and how long before its end
    it is told to save. `sbatch` are further options, each as it stands after `#SBATCH`.
    """

    command: Sequence[str]
    time: int
    nodes: int = 1
    gpus_per_node: int = 1
    cpus_per_task: int | None = None
    partition: str | None = None
    account: str | None = None
    output: str = "slurm-%j.out"
    notice: int = 120
    sbatch: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.command:
            raise ConfigError(
                "No command to launch. Write it after two dashes: matey launch slurm ... -- train "
                "--config ..."
            )
        if self.command[0] not in SHARED_WORK:
            raise ConfigError(
                f"{self.command[0]!r} cannot be launched on many processes, only {SHARED_WORK[0]} "
                f"and {SHARED_WORK[1]}. {nearest(self.command[0], SHARED_WORK)}"
            )
        if resume_of(self.command) not in (None, "auto"):
            raise ConfigError(
                "A job that returns to the queue goes on with --resume auto. Leave --resume out."
            )
        if self.time <= self.notice:
            raise ConfigError(
                f"time is {self.time} s, expected more than the {self.notice} s of notice that "
                "the job has for saving."
            )
        for line in self.sbatch:
            if not line.startswith("-") or not line.isprintable():
                raise ConfigError(
                    f"--sbatch is {line!r}, expected one option as sbatch takes it, such as "
                    "--sbatch=--constraint=a100."
                )
        for key in ("partition", "account", "output"):
            value = getattr(self, key)
            if value is not None and (not value or not value.isprintable()):
                raise ConfigError(f"--{key} is {value!r}, expected text on one line.")

    def script(self) -> str:
        """The batch script, with the user's text quoted for the shell."""
        days, rest = divmod(self.time, 86400)
        clock = f"{days}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
        options = {
            "job-name": f"matey-{self.command[0]}",
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "gpus-per-node": self.gpus_per_node,
            "cpus-per-task": self.cpus_per_task,
            "partition": self.partition,
            "account": self.account,
            "time": clock,
            "signal": f"B:USR1@{self.notice}",
            "output": self.output,
            "open-mode": "append",
        }
        lines = [f"--{k}={shlex.quote(str(v))}" for k, v in options.items() if v is not None]
        return SCRIPT.format(
            header="\n".join(f"#SBATCH {line}" for line in [*lines, "--requeue", *self.sbatch]),
            bin=shlex.quote(str(Path(sys.executable).parent)),
            threads=self.threads(),
            torchrun=self.torchrun(),
        )

    def threads(self) -> str:
        """Share the cores of a node among its processes, if their number is set."""
        if self.cpus_per_task is None:
            return ""
        return (
            f"export SRUN_CPUS_PER_TASK={self.cpus_per_task}\n"
            f"export OMP_NUM_THREADS={max(1, self.cpus_per_task // self.gpus_per_node)}\n"
        )

    def torchrun(self) -> str:
        """The torchrun command of one node."""
        words = list(self.command)
        if resume_of(words) is None:
            words += ["--resume", "auto"]
        where = (
            f"--nnodes {self.nodes} --nproc-per-node {self.gpus_per_node} "
            '--node-rank "$SLURM_NODEID" --master-addr "$MASTER_HOST" --master-port "$MASTER_PORT"'
        )
        return f"torchrun {where} -m matey -- {shlex.join(words)}"


def resume_of(words: Sequence[str]) -> str | None:
    """The value of `--resume` in a command; None without one."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "--resume":
            return after
        if word.startswith("--resume="):
            return word.partition("=")[2]
    return None


def seconds(text: str, option: str = "--time") -> int:
    """A span of time as `6h`, `90m`, `1d12h`, or in SLURM's notation, as `1-12:00:00`."""
    if text and (parts := SPANS.fullmatch(text) or CLOCK.fullmatch(text)):
        days, hours, minutes, rest = (int(number or 0) for number in parts.groups())
        return rest + 60 * (minutes + 60 * (hours + 24 * days))
    raise ConfigError(f"{option} is {text!r}, expected one such as 6h, 90m, 1d12h or 1-12:00:00.")


def add_arguments(parser: Any) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("--nodes", type=PositiveInt, default=1, help="machines")
    parser.add_argument(
        "--gpus-per-node", type=PositiveInt, default=1, help="GPUs, and processes, on each"
    )
    parser.add_argument("--time", required=True, help="as 6h, 90m, 1d12h or 1-12:00:00")
    parser.add_argument("--partition", type=str | None, help="the queue")
    parser.add_argument("--account", type=str | None, help="who pays")
    parser.add_argument("--cpus-per-task", type=PositiveInt | None, help="cores on each node")
    parser.add_argument("--output", default=Job.output, help="the log, by the job's number")
    parser.add_argument(
        "--notice",
        type=PositiveInt,
        default=Job.notice,
        help="seconds before the end at which training is told to save and stop",
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        help="a further option of sbatch, as --sbatch=--constraint=a100; may be given again",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the script, and submit nothing"
    )
    parser.add_argument(
        "command", nargs="*", metavar="-- COMMAND", help="train or finetune, with its options"
    )


def run(options: Any) -> None:
    """Print the script, or submit it."""
    settings = {field.name: options[field.name] for field in fields(Job)}
    job = Job(**{**settings, "time": seconds(options.time)})
    try:
        check_command(job.command)
    except ConfigError as error:  # files may lie where SLURM is
        if not options.dry_run:
            raise
        log.warning("Here `matey %s` would stop: %s", job.command[0], error)
    if options.dry_run:
        print(job.script(), end="")
        return
    print(submit(job.script()))


def check_command(words: Sequence[str]) -> None:
    """Raise ConfigError for options that the command would refuse after hours in the queue."""
    from importlib import import_module

    from matey.cli import parse_words

    commands: dict[str, Command] = import_module(f"matey.cli.{words[0]}").COMMANDS
    parse_words(f"matey {words[0]}", commands[""], list(words[1:]))


def submit(script: str) -> str:
    """Submit a script and return sbatch's answer. Raises ConfigError if that fails."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ConfigError(
            "sbatch was not found: SLURM is not installed here, or not on the PATH. "
            "Add --dry-run to print the script, and submit it where SLURM is."
        )
    done = subprocess.run([sbatch], input=script, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigError(f"sbatch refused the job: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


COMMANDS = {
    "slurm": Command(
        "train on a cluster: write the batch script, with exact resumption, and submit it",
        "matey launch slurm --nodes 4 --gpus-per-node 8 --time 6h --dry-run -- "
        "train --config examples/pretrain-ti.yaml --data mix.yaml --run runs/a",
        add_arguments,
        run,
    )
}
