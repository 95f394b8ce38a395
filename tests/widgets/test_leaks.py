"""A cell that is run again and again, in a real kernel: what its earlier runs made is gone."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from jupyter_client.manager import start_new_kernel

MAKE = """
import sys; sys.path.insert(0, {root!r})
from kdlab.widgets import BottleneckBuilder, KLDirection
b = BottleneckBuilder("BERT-base")
w = KLDirection()
w
"""
COUNT = """
import gc, json, ipywidgets, comm
from matplotlib.figure import Figure
gc.collect()
alive = gc.get_objects()
print(json.dumps({"widgets": len(ipywidgets.widgets.widget._instances), "comms": len(comm.get_comm_manager().comms),
                  "figures": sum(isinstance(x, Figure) for x in alive),
                  "callbacks": sum(len(v) for x in alive if isinstance(x, ipywidgets.Widget)
                                   for kinds in x._trait_notifiers.values() for v in kinds.values())}))
del alive
"""


@pytest.fixture
def kernel():
    manager, client = start_new_kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code: str, cell: str) -> str:
    """Run code as a notebook's front end does, which says which cell it is from."""
    message = client.session.msg("execute_request", {
        "code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
        "stop_on_error": True})
    message["metadata"]["cellId"] = cell
    client.shell_channel.send(message)
    printed = []
    while True:
        answer = client.get_iopub_msg(timeout=60)
        if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        if answer["msg_type"] == "error":
            raise AssertionError("\n".join(answer["content"]["traceback"]))
        if answer["msg_type"] == "stream" and answer["content"]["name"] == "stdout":
            printed.append(answer["content"]["text"])
        if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
            return "".join(printed)


def test_ten_runs_of_a_cell_leave_what_one_leaves(kernel):
    code = MAKE.format(root=str(ROOT))
    execute(kernel, code, "a")
    once = json.loads(execute(kernel, COUNT, "count"))
    assert once["widgets"] > 10 and once["figures"] == 2 and once["callbacks"] > 0
    for _ in range(10):
        execute(kernel, code, "a")
    assert json.loads(execute(kernel, COUNT, "count")) == once
    execute(kernel, code, "b")
    twice = json.loads(execute(kernel, COUNT, "count"))
    assert twice["figures"] == 4, "another cell's widget stays"
