"""What Grafana reads at its start: one data source, one provider of boards. That a Grafana takes both is shown in tests/compose."""

import yaml

from tests.grafana.boards_world import PROVISIONING, boards, data_source


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
