"""What each profile asks of its executor or container engine, step by step, as the engine really works it out.

Stub runs of the whole study with commands in the place of Docker, its like and Slurm (tests/profiles/bin), a server in
the place of Kubernetes (fake_kubernetes.py), and for AWS Batch tasks that write down their directives (probe.config).
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from conftest import copy_checkout

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "profiles"))

from fake_kubernetes import FakeKubernetes  # noqa: E402

GUESTS = {"SCAN": "EVALUATE", "TRUST": "BUNDLE"}  # steps that run in another's image
STEPS = {path.parent.name.upper() for path in (ROOT / "modules/local").glob("*/main.nf")}
NETWORK = {"FINETUNE", "PREDICT", "REGISTER", "SEGMENT", "TRAIN"}
QUEUES = "--queue cpu-queue --gpu_queue gpu-queue"
CPUS = {
    "TRAIN": 8,
    "FINETUNE": 8,
    "PREDICT": 4,
    "REGISTER": 4,
    "SEGMENT": 4,
    "DOSE": 2,
    "PREPROCESS": 2,
    "EVALUATE": 2,
    "REPORT": 2,
}
ROLE = "arn:aws:iam::123456789012:role/tasks"
RUNS = {
    "standard": "",
    "docker": "",
    "gpu,docker": "",
    "gpu,podman": "",
    "gpu,singularity": "",
    "gpu,slurm,apptainer": f"{QUEUES} --slurm_account lab",
    "gpu,awsbatch": f"{QUEUES} --aws_region eu-central-1 --aws_job_role {ROLE} --aws_bucket s3://bucket/prefix "
    "--checkpoint_dir s3://bucket/states",
    "gpu,k8s": "--k8s_namespace lab --k8s_claim shared --k8s_mount MOUNT --k8s_user 1234",
}


def wants_gpu(task) -> bool:
    """With -profile gpu: training, prediction and segmentation, and of the registrations those that run on torch."""
    return task.step in NETWORK - {"REGISTER"} or (task.step == "REGISTER" and task.tag.endswith("impact"))


@pytest.fixture(scope="module")
def kubernetes():
    """A server that loses the first training's pod."""
    fake = FakeKubernetes(tools=ROOT / ".venv" / "bin", lose="TRAIN")
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, nextflow, kubernetes):
    """{profile: tasks of a stub run}, each (step, tag, run: text of .command.run, facts: what the probe wrote)."""
    base = tmp_path_factory.mktemp("profiles")
    demo = ROOT / "assets" / "demo" / "samplesheet_mr.csv"
    with open(demo) as file:
        rows = list(csv.DictReader(file))[:4]
    for row in rows:
        row |= {name: str(demo.parent / row[name]) for name in ("image", "ct", "mask") if row.get(name)}
    with open(base / "sheet.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    # an arm of one's own is a table and no code: here one that needs no GPU
    (base / "own.toml").write_text(
        'inherit = "test"\n[registration.arms.mine]\nengine = "elastix"\nlabel = "my maps"\n'
    )
    (base / "blurred.txt").write_text(f"{rows[0]['patient']}, the patient moved\n")
    limits = base / "limits.config"
    limits.write_text(
        "process.resourceLimits = [cpus: 8, memory: 32.GB]\n"
        "executor { cpus = 64; memory = 512.GB; pollInterval = '500ms' }\n"
    )

    def run(profile: str):
        directory = base / profile.replace(",", "-")
        directory.mkdir()
        # tasks of Kubernetes find the checkout on the claim
        checkout = copy_checkout(directory) if "k8s" in profile else ROOT
        configs = [limits] + ([ROOT / "tests/profiles/probe.config"] if "awsbatch" in profile else [])
        study = f"--input {base}/sheet.csv --modality mr --registration impact,mine --preset {base}/own.toml"
        study = [
            *study.split(),
            *["--folds", "2", "--holdout", "1", "--segment", "--dose", "photon", "--exclude"],
            f"mine={base}/blurred.txt",
            *RUNS[profile].replace("MOUNT", str(base)).split(),
            "--outdir",
            "out dir",
        ]
        study += [word for config in configs for word in ("-c", config)]
        done = nextflow(
            directory,
            *("run", checkout / "main.nf", "-stub-run", "-profile", profile, *study),
            PATH=f"{ROOT}/tests/profiles/bin:{os.environ['PATH']}",
            NXF_OPTS="-XX:TieredStopAtLevel=1",
            NXF_SYNTAX_PARSER="v1",
            KUBECONFIG=str(kubernetes.kubeconfig(directory / "kubeconfig")),
        )
        assert done.returncode == 0, f"{profile}: {done.stdout}\n{done.stderr}"
        tasks = []
        with open(next((directory / "out dir/pipeline_info").glob("trace_*.txt"))) as file:
            for row in csv.DictReader(file, delimiter="\t"):
                (work,) = (directory / "work").glob(f"{row['hash']}*")
                name, _, tag = row["name"].partition(" (")
                facts = work / ".facts.json"
                tasks.append(
                    SimpleNamespace(
                        step=name.split(":")[-1],
                        tag=tag.rstrip(")"),
                        run=(work / ".command.run").read_text(),
                        facts=json.loads(facts.read_text()) if facts.exists() else {},
                        directory=directory,
                    )
                )
        assert {task.step for task in tasks} == STEPS
        for arm in ("mine", "impact"):  # excluded from one arm's training, not from the other's
            text = (directory / "out dir/registration" / arm / "excluded.csv").read_text()
            assert (rows[0]["patient"] in text) == (arm == "mine"), text
        return tasks

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(RUNS, pool.map(run, RUNS), strict=True))


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """{step: name of the image that containers/build gives}."""
    listed = subprocess.run([ROOT / "containers/build", "--list"], capture_output=True, text=True, check=True)
    own = {name.split("/")[-1].split(":")[0].upper(): name for name in listed.stdout.split()}
    return own | {guest: own[host] for guest, host in GUESTS.items()}


def tree(task) -> set[str]:
    """What a run published."""
    results = task.directory / "out dir"
    return {str(path.relative_to(results)) for path in results.rglob("*") if "pipeline_info" not in path.parts}


def test_every_profile_publishes_the_same_tree(runs):
    """Side by side: no profile takes a file of the results away or adds one; registrations are among them."""
    trees = {profile: tree(tasks[0]) for profile, tasks in runs.items()}
    assert any(name.startswith("registration/impact/") and name.endswith("/qc.json") for name in trees["standard"])
    # a state that goes to a bucket leaves no directory for it
    checkpoints = {"checkpoints"}
    assert {
        profile for profile, found in trees.items() if found - checkpoints != trees["standard"] - checkpoints
    } == set()


def engine_line(task, engine: str) -> str:
    """The line of .command.run that starts the container."""
    (line,) = re.findall(rf"^\s*.*\b{engine} (?:run|exec) .*$", task.run, re.MULTILINE)
    return line


@pytest.mark.parametrize(
    "profile, engine, flag",
    [
        ("docker", "docker", "--gpus"),
        ("gpu,docker", "docker", "--gpus all"),
        ("gpu,podman", "podman", "--device nvidia.com/gpu=all"),
        ("gpu,singularity", "singularity", "--nv"),
        ("gpu,slurm,apptainer", "apptainer", "--nv"),
    ],
)
def test_container_engines(runs, images, profile, engine, flag):
    """Each step runs in its own image, GPU tasks alone get the GPU's flag, and training reaches its checkpoints."""
    for task in runs[profile]:
        line = engine_line(task, engine)
        if engine in ("docker", "podman"):
            assert f" {images[task.step]} " in line
        else:
            assert images[task.step].replace("/", "-").replace(":", "-") + ".img" in line
        assert (flag in line) == ("gpu" in profile and wants_gpu(task)), line
        assert ("--shm-size 1g" in line) == (task.step in NETWORK and engine in ("docker", "podman")), line
        checkpoints = f"{task.directory}/out dir/checkpoints"
        bind = "-v" if engine in ("docker", "podman") else "-B"
        assert (f"{bind} '{checkpoints}:{checkpoints}'" in line) == (task.step in {"TRAIN", "FINETUNE"}), line
        if engine == "docker":
            assert "-u $(id -u):$(id -g)" in line
        if engine == "podman":
            assert "--userns keep-id" in line
        assert ".venv" not in task.run, "the checkout's own environment is not for containers"


@pytest.mark.parametrize(("profile", "limit"), [("gpu,docker", 1), ("docker", 0), ("slurm,gpu", 0)])
def test_one_task_a_gpu_step_where_nothing_else_counts_gpus(tmp_path, nextflow, profile, limit):
    """On this machine steps that fill a GPU run one at a time; without GPUs, or under a scheduler, many."""
    preview = ("-preview", "-profile", f"test,{profile}", "--queue", "queue")
    done = nextflow(tmp_path, "run", ROOT / "main.nf", *preview, version="25.04.4", NXF_SYNTAX_PARSER="v1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"Creating process '(\S+)': maxForks=(\d+)", (tmp_path / ".nextflow.log").read_text())
    forks = {name.split(":")[-1]: int(number) for name, number in found}
    assert forks == {step: limit if step in NETWORK and step != "REGISTER" else 0 for step in STEPS}


def test_slurm(runs):
    """Partition, account, resources, and a GPU for GPU tasks alone."""
    for task in runs["gpu,slurm,apptainer"]:
        asked = re.findall(r"^#SBATCH (.*)$", task.run, re.MULTILINE)
        assert f"-p {'gpu-queue' if wants_gpu(task) else 'cpu-queue'}" in asked
        assert any("--account=lab" in line for line in asked)
        assert any("--gres=gpu:1" in line for line in asked) == wants_gpu(task)
        expected = CPUS.get(task.step, 1)
        assert f"--mem {expected * 4096 if expected > 1 else 4096}M" in asked, asked
        if expected > 1:
            assert f"-c {expected}" in asked


def test_aws_batch(runs, images):
    """Every step has a queue and an image; GPUs by `accelerator` alone; --shm-size in the form that Batch can read."""
    for task in runs["gpu,awsbatch"]:
        facts = task.facts
        assert facts["container"] == images[task.step]
        assert (facts["cpus"], facts["memory"]) == (CPUS.get(task.step, 1), 4 * CPUS.get(task.step, 1))
        assert facts["hours"] == {"TRAIN": 120, "FINETUNE": 120, "PREDICT": 8, "REGISTER": 8, "SEGMENT": 8}.get(
            task.step, 4
        )
        assert facts["queue"] == ("gpu-queue" if wants_gpu(task) else "cpu-queue")
        assert not facts["forks"], "Batch itself gives out the GPUs"
        assert facts["accelerator"] == (1 if wants_gpu(task) else None)
        assert facts["containerOptions"] == ("--shm-size 1g" if task.step in NETWORK else None)
        assert facts["aws"]["region"] == "eu-central-1"
        assert facts["aws"]["batch"]["jobRole"] == ROLE
        assert facts["aws"]["batch"]["maxSpotAttempts"] > 0


def test_kubernetes(runs, images, kubernetes):
    """The pods that the server was sent: a GPU for GPU tasks alone, shared memory for GPU steps, one claim."""
    for pod in kubernetes.specs:
        labels, spec = pod["metadata"]["labels"], pod["spec"]
        (container,) = spec["containers"]
        task = SimpleNamespace(
            step=labels["nextflow.io/processName"].split("_")[-1], tag=labels["nextflow.io/taskName"].rstrip("_")
        )
        assert pod["metadata"]["namespace"] == "lab"
        assert container["image"] == images[task.step]
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert "command" not in container, "the task is in args: an image's entry point would swallow it"
        gpu = {"nvidia.com/gpu": 1} if wants_gpu(task) else {}
        for kind in ("requests", "limits"):
            asked = container["resources"].get(kind, {})
            assert {name: value for name, value in asked.items() if "gpu" in name} == gpu, task
        assert container["resources"]["requests"]["memory"].endswith("Mi")
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        (claim,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
        assert claim["persistentVolumeClaim"]["claimName"] == "shared"
        assert claim["name"] in mounts.values()
        assert ("/dev/shm" in mounts) == (task.step in NETWORK)
        if task.step in NETWORK:
            assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
            assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert spec["securityContext"] == {"runAsUser": 1234}


def test_pod_that_vanishes(runs, kubernetes):
    """The pod of a training is lost, as when its node is taken away: the task runs again and the study completes."""
    names = [pod["metadata"]["labels"]["nextflow.io/taskName"] for pod in kubernetes.specs]
    twice = {name for name in names if names.count(name) == 2}
    assert len(twice) == 1 and "TRAIN" in twice.pop()
    assert {task.step for task in runs["gpu,k8s"]} == STEPS


def test_nothing_depends_on_a_local_path(tmp_path, nextflow):
    """A study whose sheet, and with it every image, is a URI: as with s3://, nothing of it lies on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def translate_path(self, path):
            # an object store's keys are names: '..' is one that nothing has
            return "/nothing" if ".." in path else super().translate_path(path)

    shutil.copytree(ROOT / "assets/demo", tmp_path / "bucket/demo")
    text = (ROOT / "assets/demo/samplesheet_mr.csv").read_text()
    (tmp_path / "bucket/sheets").mkdir()
    (tmp_path / "bucket/sheets/mr.csv").write_text(re.sub(r"(?<=,)(?=[^,\s]+\.\w+)", "../demo/", text))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "bucket")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        sheet = f"http://127.0.0.1:{server.server_port}/sheets/mr.csv"
        study = f"--input {sheet} --modality mr --registration elastix --preset test --folds 2 --outdir out"
        done = nextflow(tmp_path, "run", ROOT / "main.nf", "-stub-run", "-profile", "stub", *study.split())
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/report/report.html").exists()


def test_every_profile_in_the_strict_syntax(nextflow, tmp_path):
    """The configuration of all profiles is read by the newest parser without a word of complaint."""
    strict = {"version": "25.04.4", "NXF_SYNTAX_PARSER": "v2"}
    done = nextflow(tmp_path, "config", "-show-profiles", ROOT, **strict)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    _, _, shown = done.stdout.partition("\nprofiles {")
    names = {name for run in RUNS for name in run.split(",")} - {"standard"} | {"test", "stub"}  # standard is empty
    assert set(re.findall(r"^   (\w+) \{", shown.split("\n}")[0], re.MULTILINE)) == names


def test_inspect_names_the_images(nextflow, tmp_path, images):
    """`nextflow inspect`, with which images are fetched ahead of a run, names the image of each step."""
    strict = {"version": "25.04.4", "NXF_SYNTAX_PARSER": "v2"}
    done = nextflow(tmp_path, "inspect", "-profile", "gpu,docker,test", ROOT, **strict)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {entry["name"].split(":")[-1]: entry["container"] for entry in json.loads(done.stdout)["processes"]}
    assert found == images


def test_faults_of_a_cluster(tmp_path, nextflow):
    """What a profile cannot do without is said at once and before any task, with the other faults."""
    wrong = ("--queue", "a queue", "--k8s_claims", "shared")
    done = nextflow(tmp_path, "run", ROOT / "main.nf", "-profile", "test,awsbatch,k8s", *wrong)
    assert done.returncode != 0
    for fault in (
        "--queue: found 'a queue'",
        "--k8s_claims: unknown, did you mean 'k8s_claim'",
        "--k8s_claim: missing",
        "--aws_bucket: missing",
        f"checkpoint directory: found '{tmp_path}/results/checkpoints'",
        f"checkout: found '{ROOT}', expected a place below --k8s_mount /workspace",
        f"work directory: found '{tmp_path}/work', expected a place below --k8s_mount /workspace",
    ):
        assert fault in done.stdout, done.stdout
