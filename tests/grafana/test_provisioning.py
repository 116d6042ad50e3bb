"""What Grafana reads at its start: one data source, one provider of boards, and that a Grafana takes both."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from services.settings import REPOSITORY
from tests.grafana.boards_world import PROVISIONING, boards, data_source
from tests.tools.stack_world import free_port, wait_until

IMAGE = "grafana/grafana:13.1.0"


def test_data_source_is_fixed() -> None:
    """The one data source has the uid of the boards' variable, its scrape interval, and nobody edits it."""
    source = data_source()
    variables = [board["templating"]["list"][0] for board in boards().values()]

    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert (source["editable"], source["jsonData"]["timeInterval"]) == (False, "2s")
    for variable in variables:
        assert (variable["name"], variable["type"], variable["hide"]) == ("datasource", "datasource", 2)
        assert variable["current"] == {"text": source["name"], "value": source["uid"]}
        assert variable["regex"] == f"/^{source['name']}$/"


def test_boards_come_from_files_alone() -> None:
    """The provider reads the folder of the boards; what is changed or deleted in a browser is not kept."""
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "boards.yml").read_text())["providers"]

    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)


def has_image() -> bool:
    """Whether Docker is there and has the image."""
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.fixture
def grafana() -> Iterator[str]:
    """The address of a Grafana with our provisioning, in a container of its own."""
    if not has_image():
        pytest.skip(f"needs Docker with the image {IMAGE}")
    port = free_port()
    mounts = {"provisioning": "/etc/grafana/provisioning", "dashboards": "/var/lib/grafana/dashboards"}
    volumes = [f"--volume={REPOSITORY / 'grafana' / name}:{place}:ro" for name, place in mounts.items()]
    command = ["docker", "run", "--rm", "--detach", f"--publish=127.0.0.1:{port}:3000", *volumes]
    made = subprocess.run(
        [*command, "--env=GF_AUTH_ANONYMOUS_ENABLED=true", "--env=GF_AUTH_ANONYMOUS_ORG_ROLE=Admin", IMAGE],
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "kill", made.stdout.strip()], capture_output=True, check=False)


def asked(address: str) -> Any:
    """What an address answers; None while it does not."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - the container's own address
            return json.loads(answer.read())
    except OSError:
        return None


@pytest.mark.slow
@pytest.mark.compose
def test_grafana_takes_the_provisioning(grafana: str) -> None:
    """A Grafana starts with our files, has the data source, and lists every board under its uid."""
    wait_until(lambda: asked(f"{grafana}/api/health") is not None, 60)
    wait_until(lambda: len(asked(f"{grafana}/api/search?type=dash-db") or []) == len(boards()), 60)

    found = {board["uid"]: board["title"] for board in asked(f"{grafana}/api/search?type=dash-db")}
    assert found == {board["uid"]: board["title"] for board in boards().values()}
    assert [source["uid"] for source in asked(f"{grafana}/api/datasources")] == ["prometheus"]
