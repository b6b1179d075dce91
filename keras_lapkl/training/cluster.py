"""Which processes train together, as the environment of each tells: TF_CONFIG, or SLURM's step."""

import dataclasses
import json
import os
import re
from typing import Any

from absl import logging

FIRST_PORT = 61440
"""Of SLURM's jobs. The ports above are given to no connection by Linux."""
PORTS_OF_A_JOB = 16
"""Jobs whose numbers follow each other may share a node."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one training, seen from one of them.

    Attributes:
        addresses: `host:port` of each, in the order of all.
        index: which of them this one is; 0 is the first.
        source: what told so.
    """

    addresses: tuple[str, ...]
    index: int
    source: str

    def __str__(self):
        return (
            f"Process {self.index + 1} of {len(self.addresses)}, by {self.source}: "
            f"{', '.join(self.addresses)}"
        )


def find() -> Cluster | None:
    """The cluster that the environment tells of; None if this process trains alone.

    `TF_CONFIG` goes first, as TensorFlow defines it and Kubernetes' training operator sets it. Then
    comes a step of SLURM (`srun`) with several tasks, as TensorFlow's `SlurmClusterResolver` reads
    it. `TF_CONFIG={}` trains alone in a step, too.

    Raises:
        ValueError: a variable that is not as its maker writes it, or that asks for what is not
            here, such as parameter servers.

    Example:

    >>> os.environ["TF_CONFIG"] = json.dumps({
    ...     "cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
    ...     "task": {"type": "worker", "index": 1},
    ... })
    >>> print(find())
    Process 2 of 2, by TF_CONFIG: 10.0.0.1:2222, 10.0.0.2:2222
    """
    if text := os.environ.get("TF_CONFIG"):
        return from_tf_config(text)
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _from_slurm()
    if os.environ.get("SLURM_NTASKS", "1") != "1":
        logging.warning(
            "SLURM's job has %s tasks, but this is one process alone: start it by srun.",
            os.environ["SLURM_NTASKS"],
        )
    return None


def from_tf_config(text: str) -> Cluster | None:
    """The cluster of a `TF_CONFIG`; None of one without `cluster`.

    Args:
        text: JSON with `cluster`, lists of `host:port` by `chief` and `worker`, and `task`, with
            `type` and `index`. The chief is the first process.

    Raises:
        ValueError: with what was expected.
    """
    data = _parsed(text)
    if "cluster" not in data:
        return None
    lists, task = data["cluster"], data.get("task")
    if not isinstance(lists, dict) or not all(isinstance(v, list) for v in lists.values()):
        raise _unlike("`cluster` with a list of addresses for each type", lists)
    lists = {kind: found for kind, found in lists.items() if found and kind != "evaluator"}
    if others := sorted(set(lists) - {"chief", "master", "worker"}):
        raise ValueError(
            f"TF_CONFIG has processes of the type {others[0]}: all processes train alike here. "
            "Make all of them `worker`, or one of them `chief`."
        )
    addresses, places = [], []
    for kind in ("chief", "master", "worker"):
        addresses += lists.get(kind, [])
        places += [(kind, i) for i in range(len(lists.get(kind, [])))]
    _check_addresses(addresses)
    if not isinstance(task, dict) or (task.get("type"), task.get("index")) not in places:
        if isinstance(task, dict) and task.get("type") == "evaluator":
            raise ValueError(
                "TF_CONFIG makes this process the evaluator. The first process evaluates: start "
                "no evaluator."
            )
        raise _unlike("`task` with `type` and `index` of an address in `cluster`", task)
    return Cluster(tuple(addresses), places.index((task["type"], task["index"])), "TF_CONFIG")


def _parsed(text) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise _unlike('JSON such as {"cluster": {…}, "task": {…}}', text)
    return data


def _check_addresses(addresses):
    for address in addresses:
        found = isinstance(address, str) and re.fullmatch(r"\S+:(\d{1,5})", address)
        if not found or not 0 < int(found[1]) < 2**16:
            raise _unlike("addresses as host:port, such as 10.0.0.1:2222", address)
    if len(set(addresses)) < len(addresses) or not addresses:
        raise _unlike("`cluster` with one address for each process", addresses)


def _unlike(expected, received):
    return ValueError(f"TF_CONFIG: expected {expected}. Received: {str(received)[:200]}")


def _from_slurm():
    """The tasks of this step, each with a port of its job on its node."""
    import tensorflow as tf

    try:
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        port = FIRST_PORT + PORTS_OF_A_JOB * (int(os.environ["SLURM_JOB_ID"]) % 256)
        # The devices of a task are SLURM's to choose (--gpus-per-task). The resolver counts GPUs
        # by nvidia-smi where it is not told, and fails on nodes without.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
        # It sorts nodes as text, n10 before n9, and SLURM as numbers: its ranks are not SLURM's.
        own = f"{os.environ['SLURMD_NODENAME']}:{port + int(os.environ['SLURM_LOCALID'])}"
        index = addresses.index(own)
    except (KeyError, ValueError, RuntimeError) as error:
        told = {name: value for name, value in os.environ.items() if name in _SLURM}
        raise ValueError(
            f"SLURM's variables do not tell which processes train: {error!r}. Received: {told}. "
            "Start this by srun, or set TF_CONFIG={} to train alone."
        ) from error
    return Cluster(tuple(addresses), index, f"SLURM's step {os.environ.get('SLURM_STEP_ID', '')}")


_SLURM = (
    "SLURM_JOB_ID",
    *("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURMD_NODENAME"),
)
