import json

from typer.testing import CliRunner

from lab.cli import app
from lab.sim import trace as traces


def test_the_traces_are_listed_with_their_rates():
    listed = json.loads(CliRunner().invoke(app, ["traces", "--json"]).stdout)["traces"]
    assert [row["name"] for row in listed] == traces.shipped()
    assert all(row["p10_kbps"] < row["p50_kbps"] < row["p90_kbps"] for row in listed)
    table = CliRunner().invoke(app, ["traces"])
    assert table.exit_code == 0
