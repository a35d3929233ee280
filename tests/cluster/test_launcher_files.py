"""The files of Ray's cluster launcher, by its own judgement, offline, and by ours."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
import yaml
from cluster_files import CLUSTER, changed, image

FILES = ["aws.yaml", "gcp.yaml", "onprem.yaml"]


def document(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def prepared(config: Any) -> Any:
    """What `ray up` would act on; raises what it would raise."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = prepare_config(copy.deepcopy(config))
    validate_config(found)
    return found


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_it_and_drops_nothing(name: str) -> None:
    asked, got = document(name), prepared(document(name))
    # It turns the worker counts of machines at hand into a node type.
    moved = {"min_workers"} if name == "onprem.yaml" else set()
    assert asked.keys() - got.keys() == moved
    for key in asked.keys() - moved - {"available_node_types"}:
        assert got[key] == asked[key], key
    # Left to itself it would install a Ray of its own over the image's.
    assert "ray-wheels" not in json.dumps(got)


@pytest.mark.parametrize("name", FILES)
def test_all_nodes_run_our_image_and_want_a_token(name: str) -> None:
    config = prepared(document(name))
    assert config["docker"]["image"] == image()
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    starts = [c for key in ("head", "worker") for c in config[f"{key}_start_ray_commands"]]
    starts = [command for command in starts if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_machines_at_hand_all_start_at_once() -> None:
    config = prepared(document("onprem.yaml"))
    [kind] = config["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_workers_come_when_asked_and_the_head_keeps_to_itself(name: str) -> None:
    config = prepared(document(name))
    kinds = config["available_node_types"]
    head, worker = kinds[config["head_node_type"]], kinds["worker"]
    assert head["resources"] == {"CPU": 0}
    assert 0 <= worker["min_workers"] <= worker["max_workers"] <= config["max_workers"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("clustername",), "x"),
        (("provider", "type"), None),
        (("max_workers",), "8"),
        (("docker", "images"), "x"),
        (("head_node_type",), "heads"),
        (("idle_timeout_minutes",), -1),
        (("available_node_types", "worker", "resources"), None),
        (("head_start_ray_commands",), "ray start --head"),
    ],
    ids=lambda part: ".".join(part) if isinstance(part, tuple) else "",
)
def test_typos_and_wrong_types_are_caught(path: tuple[str, ...], value: Any) -> None:
    wrong = (jsonschema.ValidationError, ValueError, KeyError)
    with pytest.raises(wrong):
        prepared(changed(document("aws.yaml"), path, value))
