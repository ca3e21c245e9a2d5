"""Wi-Fi on real MicroPython; `network` is a stand-in at the level of its API."""

import json

_NETWORK = """
import sys, time, json
sys.path.append(".frozen")
calls = []
state = {"joins": 0, "up": False, "answers_from": int(sys.argv[1])}

class WLAN:
    def __init__(self, interface):
        calls.append(["WLAN", interface])

    def active(self, on):
        calls.append(["active", on])

    def config(self, **settings):
        calls.append(["config", settings])

    def isconnected(self):
        return state["up"]

    def disconnect(self):
        state["up"] = False
        if state["joins"] == 0:
            raise OSError("Wifi Not Started")

    def connect(self, ssid, key):
        calls.append(["connect", ssid, key])
        state["joins"] += 1
        if state["joins"] == 1 and state["answers_from"] > 2:
            raise OSError("Wifi Internal State Error")
        state["up"] = state["joins"] >= state["answers_from"]

class Module: pass

network = Module()
network.WLAN, network.STA_IF = WLAN, 0
sys.modules["network"] = network
from firmware.ports import wlan
"""


def test_a_board_waits_for_its_access_point_as_long_as_it_takes(run_micropython):
    script = _NETWORK + "wlan.connect({'ssid': 'hall', 'key': 'secret'}, 7, 100)\nprint(json.dumps(calls))"
    *said, calls = run_micropython(script, "4").decode().splitlines()
    assert said == ["slimwire: no Wi-Fi: hall does not take this device; trying again"] * 3
    found = json.loads(calls)
    assert found[:3] == [["WLAN", 0], ["active", True], ["config", {"pm": 7}]]
    assert found[3:] == [["connect", "hall", "secret"]] * 4


def test_a_connection_that_is_lost_is_made_anew_while_the_agent_runs(run_micropython):
    """It ends twice; the first time the driver itself is back before anybody has to look again."""
    script = _NETWORK + (
        "import asyncio\n"
        "wlan.connect({'ssid': 'hall', 'key': 'secret'}, 7, 100, 0.1)\n"
        "async def agent():\n"
        "    state['up'] = False\n"
        "    await asyncio.sleep(0.14)\n"
        "    state['up'] = True\n"
        "    await asyncio.sleep(0.3)\n"
        "    joins = state['joins']\n"
        "    state['up'] = False\n"
        "    for i in range(100):\n"
        "        await asyncio.sleep(0.02)\n"
        "        if state['up']:\n"
        "            break\n"
        "    print(joins, state['joins'], state['up'])\n"
        "asyncio.run(agent())\n"
    )
    assert run_micropython(script, "1").decode() == "1 2 True\n"
