import json
import re

import pytest

from keras_lapkl.training import cluster

VARIABLES = (
    *("TF_CONFIG", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"),
    *("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID"),
    "SLURMD_NODENAME",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def tf_config(lists, kind="worker", index=0, **others):
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": lists, "task": task, "environment": "cloud", **others})


WORKERS = ["faces-worker-0.default.svc:2222", "faces-worker-1.default.svc:2222"]
"""As Kubernetes' training operator names them."""
CHIEF = ["faces-chief-0.default.svc:2222"]


class TestTFConfig:
    @pytest.mark.parametrize("index", [0, 1])
    def test_workers(self, monkeypatch, index):
        monkeypatch.setenv("TF_CONFIG", tf_config({"worker": WORKERS}, index=index))
        found = cluster.find()
        assert found == cluster.Cluster(tuple(WORKERS), index, "TF_CONFIG")
        assert str(found) == f"Process {index + 1} of 2, by TF_CONFIG: {', '.join(WORKERS)}"

    @pytest.mark.parametrize("kind", ["chief", "master"])
    def test_a_chief_is_the_first(self, kind):
        lists = {"worker": WORKERS, kind: CHIEF}
        told = [(kind, 0), ("worker", 0), ("worker", 1)]
        for rank, task in enumerate(told):
            found = cluster.from_tf_config(tf_config(lists, *task))
            assert (found.addresses, found.index) == ((*CHIEF, *WORKERS), rank)

    @pytest.mark.parametrize("text", ["{}", '{"task": {"type": "worker", "index": 0}}'])
    def test_without_a_cluster_one_trains_alone(self, monkeypatch, text):
        """Also in a step of SLURM, whose tasks then have nothing to do with each other."""
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
        monkeypatch.setenv("TF_CONFIG", text)
        assert cluster.find() is None

    def test_an_evaluator_beside_is_no_part_of_it(self):
        lists = {"worker": WORKERS, "evaluator": ["faces-evaluator-0:2222"], "ps": []}
        assert cluster.from_tf_config(tf_config(lists)).addresses == tuple(WORKERS)
        with pytest.raises(ValueError, match="start no evaluator"):
            cluster.from_tf_config(tf_config(lists, "evaluator"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "expected JSON"),
            ("[]", "expected JSON"),
            ("[" * 10000, "expected JSON"),
            (tf_config(WORKERS), "a list of addresses for each type"),
            (tf_config({"worker": {"1": "a:1"}}), "a list of addresses for each type"),
            (tf_config({"worker": WORKERS, "ps": ["a:1"]}), "processes of the type ps"),
            (tf_config({"worker": []}), "one address for each process"),
            (tf_config({"worker": ["a:1", "a:1"]}), "one address for each process"),
            (tf_config({"worker": ["a"]}), "host:port.*Received: a$"),
            (tf_config({"worker": [1]}), "host:port.*Received: 1$"),
            (tf_config({"worker": ["a:0"]}), "host:port.*Received: a:0$"),
            (tf_config({"worker": ["a:65536"]}), "host:port.*Received: a:65536$"),
            (tf_config({"worker": WORKERS}, index=2), "an address in `cluster`.*'index': 2"),
            (tf_config({"worker": WORKERS}, index="0"), "an address in `cluster`"),
            (tf_config({"worker": WORKERS}, "chief"), "an address in `cluster`"),
            (json.dumps({"cluster": {"worker": WORKERS}}), "an address in `cluster`.*None"),
        ],
    )
    def test_refused(self, text, message):
        with pytest.raises(ValueError, match=message) as caught:
            cluster.from_tf_config(text)
        assert "TF_CONFIG" in str(caught.value) and len(str(caught.value)) < 400


class TestSLURM:
    def step(self, monkeypatch, nodes="n[9-10]", tasks="2,1", node="n9", local=1, total=3):
        values = {
            "SLURM_JOB_ID": "4242",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": total,
            "SLURM_STEP_NODELIST": nodes,
            "SLURM_STEP_TASKS_PER_NODE": tasks,
            "SLURM_PROCID": local,
            "SLURM_LOCALID": local,
            "SLURMD_NODENAME": node,
        }
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    def test_each_task_finds_itself_at_its_own_node(self, monkeypatch):
        """TensorFlow's resolver sorts nodes as text, so that SLURM's ranks would lie elsewhere."""
        seen, indices = set(), []
        for node, local in (("n9", 0), ("n9", 1), ("n10", 0)):
            self.step(monkeypatch, node=node, local=local)
            found = cluster.find()
            seen.add(found.addresses)
            indices.append(found.index)
            host, _, port = found.addresses[found.index].partition(":")
            assert host == node and int(port) == int(found.addresses[0].split(":")[1]) + local
        (addresses,) = seen
        assert sorted(indices) == [0, 1, 2] and len(set(addresses)) == 3
        assert str(found).startswith("Process 1 of 3, by SLURM's step 0: n10:")

    def test_nodes_of_several_names_and_no_gpu(self, monkeypatch):
        """Without nvidia-smi, which TensorFlow's resolver would call."""
        monkeypatch.setenv("PATH", "")
        self.step(monkeypatch, "a[01-02],gpu7", "1(x2),2", "gpu7", 1, 4)
        hosts = [address.split(":")[0] for address in cluster.find().addresses]
        assert hosts == ["a01", "a02", "gpu7", "gpu7"]

    def test_jobs_on_one_node_have_ports_of_their_own(self, monkeypatch):
        ports = []
        for job in (4242, 4243):
            self.step(monkeypatch, "a", "16", "a", 0, 16)
            monkeypatch.setenv("SLURM_JOB_ID", str(job))
            ports += [int(address.split(":")[1]) for address in cluster.find().addresses]
        assert len(set(ports)) == 32 and min(ports) > 60999 and max(ports) < 65536

    def test_tf_config_goes_first(self, monkeypatch):
        self.step(monkeypatch)
        monkeypatch.setenv("TF_CONFIG", tf_config({"worker": WORKERS}))
        assert cluster.find().source == "TF_CONFIG"

    def test_a_step_of_one_task_trains_alone(self, monkeypatch, caplog):
        self.step(monkeypatch, "a", "1", "a", 0, 1)
        monkeypatch.setenv("SLURM_NTASKS", "1")
        assert cluster.find() is None and not caplog.text

    def test_a_job_of_several_without_srun_is_told(self, monkeypatch, caplog):
        monkeypatch.setenv("SLURM_NTASKS", "4")
        assert cluster.find() is None
        assert "4 tasks, but this is one process alone: start it by srun" in caplog.text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, None) for name in VARIABLES if name in cluster._SLURM[2:4]),
            ("SLURMD_NODENAME", "elsewhere"),
            ("SLURM_LOCALID", "7"),
            ("SLURM_JOB_ID", "x"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_STEP_NODELIST", "n[9"),
            ("SLURM_STEP_TASKS_PER_NODE", "many"),
        ],
    )
    def test_refused(self, monkeypatch, name, value):
        self.step(monkeypatch)
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match="Start this by srun, or set TF_CONFIG") as caught:
            cluster.find()
        assert re.search(r"Received: \{.*SLURM", str(caught.value))
