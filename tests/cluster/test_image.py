"""The image: what it copies is there and let in, its versions are those of the project."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest
from cluster_files import CLUSTER, DOCKERFILE, ROOT, image, pinned_ray
from packaging.requirements import Requirement
from packaging.version import Version

KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV"}


def instructions(text: str) -> list[tuple[str, list[str]]]:
    """Every instruction of a Dockerfile with its words."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.partition(" ") for line in joined.splitlines()]
    return [(verb, shlex.split(rest)) for verb, _, rest in parts]


def sources() -> Iterator[str]:
    """What the image takes from the checkout."""
    for verb, words in instructions(DOCKERFILE):
        if verb == "COPY" and not any(word.startswith("--from=") for word in words):
            yield from [word for word in words if not word.startswith("--")][:-1]


def let_in(path: str) -> bool:
    """Whether the .dockerignore lets a path of the checkout through; the last match decides."""
    verdict = True
    for line in (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        tails = range(len(parts)) if line.startswith("**/") else (0,)
        heads = ["/".join(parts[i:j]) for i in tails for j in range(i + 1, len(parts) + 1)]
        if any(fnmatch.fnmatchcase(head, pattern) for head in heads):
            verdict = line.startswith("!")
    return verdict


def test_instructions_are_known_and_stages_are_there() -> None:
    found = instructions(DOCKERFILE)
    assert {verb for verb, _ in found} <= KNOWN
    stages = [
        words[words.index("AS") + 1] for verb, words in found if verb == "FROM" and "AS" in words
    ]
    taken = re.findall(r"from=([\w-]+)", DOCKERFILE)
    assert set(taken) <= set(stages)
    bases = {words[0] for verb, words in found if verb == "FROM"}
    assert bases == {"rayproject/ray:${RAY_VERSION}-${PYTHON}"}


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    for source in sources():
        assert (ROOT / source).exists(), source
        assert let_in(source), source
    assert {"fedray", "configs", "pyproject.toml", "cluster/job.sh"} <= set(sources())
    for unwanted in (".git/config", ".venv/bin/python", "runs/a/model.npz", "tests/conftest.py",
                     "fedray/__pycache__/x.pyc", "cluster/aws.yaml"):  # fmt: skip
        assert not let_in(unwanted), unwanted


def test_all_that_the_build_needs_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"]
    assert set(needed) <= set(sources())


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [ray] = [r for r in map(Requirement, project["dependencies"]) if r.name == "ray"]
    assert Version(pinned_ray()) in ray.specifier
    [python] = re.findall(r"^ARG PYTHON=py(\d)(\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"Programming Language :: Python :: {'.'.join(python)}" in project["classifiers"]
    extras = re.findall(r"fedray-\*\.whl\)\[([\w,-]+)\]", DOCKERFILE)
    assert extras
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("name", ["Dockerfile", "README.md", "aws.yaml", "gcp.yaml", "onprem.yaml"])
def test_every_file_names_the_one_image(name: str) -> None:
    named = re.findall(r"registry\.example\.com/[\w./:-]+", (CLUSTER / name).read_text("utf-8"))
    assert named
    assert set(named) == {image()}
