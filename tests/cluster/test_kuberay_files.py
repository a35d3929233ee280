"""Ours against a schema of the fields that we use, and what no schema of KubeRay's says."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cluster_files import CLUSTER, ROOT, changed, image, pinned_ray

FILES = sorted((CLUSTER / "kuberay").glob("*.yaml"))
OURS = jsonschema.Draft202012Validator(
    json.loads(Path(__file__).with_name("kuberay.schema.json").read_text(encoding="utf-8"))
)
CRDS = os.environ.get("KUBERAY_CRDS")
"""A folder with ray.io_rayclusters.yaml and its like, of a checkout of KubeRay:
ray-operator/config/crd/bases. A megabyte each, so they are not part of this repository."""


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def of_ray(path: Path) -> Any:
    [found] = [d for d in documents(path) if d["apiVersion"].startswith("ray.io/")]
    return found


def cluster_of(document: Any) -> Any:
    return (
        document["spec"] if document["kind"] == "RayCluster" else document["spec"]["rayClusterSpec"]
    )


def problems(document: Any) -> Iterator[str]:
    """What a schema cannot say, or KubeRay's does not."""
    cluster = cluster_of(document)
    if cluster["rayVersion"] != pinned_ray():
        yield f"rayVersion {cluster['rayVersion']} is not the image's {pinned_ray()}"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            if container["image"] != image():
                yield f"image {container['image']} is not {image()}"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"no volume {mount['name']}"
    for group in cluster["workerGroupSpecs"]:
        least, most = group["minReplicas"], group["maxReplicas"]
        if not least <= group.get("replicas", least) <= most:
            yield f"replicas of {group['groupName']} are not between {least} and {most}"
    if document["kind"] == "RayJob":
        yield from job_problems(document["spec"], cluster)


def cpus_of(group: Any) -> int:
    return int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])


def job_problems(spec: Any, cluster: Any) -> Iterator[str]:
    environment = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    if not all(isinstance(value, str) for value in environment.values()):
        yield "env_vars that are not strings"
    most = sum(group["maxReplicas"] * cpus_of(group) for group in cluster["workerGroupSpecs"])
    if int(environment["FEDRAY_CPUS"]) > most:
        yield f"FEDRAY_CPUS asks for more than the {most} that may come"
    command, _, config, folder, *_ = shlex.split(spec["entrypoint"])
    if command != "fedray-job":
        yield f"{command} is not in the image"
    if not (ROOT / "configs" / Path(config).relative_to("/home/ray/configs")).is_file():
        yield f"{config} is not in the image"
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    if not any(folder.startswith(f"{m['mountPath']}/") for m in head.get("volumeMounts", [])):
        yield f"{folder} is not on a volume"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_document_is_what_kuberay_takes(path: Path) -> None:
    for document in documents(path):
        assert [f"{e.json_path}: {e.message}" for e in OURS.iter_errors(document)] == []
    assert list(problems(of_ray(path))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_volume_that_is_mounted_is_claimed(path: Path) -> None:
    claims = {
        d["metadata"]["name"]: d["spec"]["accessModes"]
        for d in documents(path)
        if d["kind"] == "PersistentVolumeClaim"
    }
    cluster = cluster_of(of_ray(path))
    pods = [g["template"]["spec"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    used = [v["persistentVolumeClaim"]["claimName"] for pod in pods for v in pod.get("volumes", [])]
    assert set(used) == set(claims)
    for name in used:
        assert used.count(name) == 1 or claims[name] == ["ReadWriteMany"]


WORKERS = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
SYNC = "/home/ray/configs/digits_sync.yaml"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("apiVersion",), "ray.io/v1alpha1"),
        (("spec", "entryPoint"), "fedray launch"),
        (("spec", "entrypoint"), None),
        (("spec", "submissionMode"), "K8sJob"),
        (("spec", "backoffLimit"), "3"),
        (("spec", "shutdownAfterJobFinishes"), False),
        (("spec", "runtimeEnvYAML"), {"env_vars": {}}),
        (("spec", "rayClusterSpec", "rayVersion"), 2.6),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "on"),
        (("spec", "rayClusterSpec", "authOptions"), None),
        (("spec", "rayClusterSpec", "enableInTreeAutoscaling"), "yes"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "upscalingMode"), "default"),
        ((*HEAD, "rayStartParams", "num-cpus"), 0),
        ((*HEAD, "template", "spec", "containers"), []),
        ((*HEAD, "template", "spec", "containers", 0, "ports", 0, "containerPort"), "6379"),
        ((*HEAD, "template", "spec", "containers", 0, "resources", "limits", "memory"), "8 GB"),
        ((*WORKERS, "maxReplicas"), "8"),
        ((*WORKERS, "replica"), 1),
        ((*WORKERS, "template"), None),
    ],
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else "",
)
def test_typos_and_wrong_types_are_caught(path: tuple[str | int, ...], value: Any) -> None:
    document = of_ray(CLUSTER / "kuberay" / "rayjob.yaml")
    assert OURS.is_valid(document)
    assert not OURS.is_valid(changed(document, path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "rayClusterSpec", "rayVersion"), "2.52.0", "rayVersion 2.52.0"),
        ((*WORKERS, "replicas"), 9, "replicas of workers"),
        ((*WORKERS, "minReplicas"), 5, "replicas of workers"),
        ((*HEAD, "template", "spec", "containers", 0, "image"), "rayproject/ray:2.60.0", "image"),
        ((*HEAD, "template", "spec", "volumes"), None, "no volume runs"),
        (("spec", "entrypoint"), "fedray-job launch /home/ray/configs/no.yaml /runs/a", "no.yaml"),
        (("spec", "entrypoint"), f"fedray-job launch {SYNC} /tmp/a", "/tmp/a is not on"),
        (("spec", "runtimeEnvYAML"), "env_vars: {FEDRAY_CPUS: '99'}", "FEDRAY_CPUS asks"),
        (("spec", "runtimeEnvYAML"), "env_vars: {FEDRAY_CPUS: 8}", "not strings"),
    ],
    ids=lambda part: part if isinstance(part, str) and " " in part else "",
)  # fmt: skip
def test_what_no_schema_says_is_caught(path: tuple[str | int, ...], value: Any, said: str) -> None:
    document = changed(of_ray(CLUSTER / "kuberay" / "rayjob.yaml"), path, value)
    assert any(said in problem for problem in problems(document))


def strict(schema: Any) -> Any:
    """A CRD's schema for jsonschema, and unknown fields made errors: an API server drops them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {"properties"} <= schema.keys() and not (
        {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    )
    found = {
        key: {name: strict(inner) for name, inner in value.items()}
        if key == "properties" and isinstance(value, dict)
        else strict(value)
        for key, value in schema.items()
    }
    return {**found, "additionalProperties": False} if closed else found


@pytest.mark.skipif(not CRDS, reason="KUBERAY_CRDS names no folder of KubeRay's CRDs")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_document_is_what_the_whole_crd_takes(path: Path) -> None:
    document = of_ray(path)
    crd = yaml.safe_load(
        (Path(str(CRDS)) / f"ray.io_{document['kind'].lower()}s.yaml").read_text(encoding="utf-8")
    )
    [version] = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # the API server's own
    whole = jsonschema.Draft202012Validator(schema)
    assert [f"{e.json_path}: {e.message}" for e in whole.iter_errors(document)] == []
    assert not whole.is_valid(changed(document, ("spec", "headgroupSpec"), {}))
