"""The programs in examples/ run as they stand, without warnings, and print what they promise."""

import json
import os
import re
import runpy
import subprocess
import sys
import threading
from contextlib import closing
from http.client import HTTPConnection
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import lure
from lure.learner.production import rollback

EXAMPLES = Path(__file__).parent.parent / "examples"

# program -> what it must have printed: the effect that it is there to show
SHOWN = {
    "one_line.py": r"before chunk 3: \d+\.\d% of the parameters were redrawn\nafter chunk 3: test accuracy [6-9]\d",
    "keep_current.py": r"npz: version 4, 720 trained on, 9(.|\n)*chunk-3.npz: learned before\na point of class 1",
    "my_unlearner.py": r"kept   4 of 16 and 1 of 4 units are fresh, nothing else moved",
    "production_cycle.py": r"version 1: \d+\.\d%, accepted; version 2: \d+\.\d%, in use|"
    r"version 1: \d+\.\d%, in use; version 2: \d+\.\d%, accepted\npredictions: \[0, 1, 2, [0-2], 1\] labels",
    "serve.py": r'^200 {"version": 1, .*\n200 {"version": 2, .*\n400 {"error": "the inputs are float32 of shape \(2,\)',
    "customer_table.py": r"age \(\d\d\.\d+\)\n.*plan \(basic, business, family\)\n  8 inputs in all\n"
    r"  warnings: \[\"column 'month' is 4 in all 500(.|\n)*may: [89]\d.*\nrow,id,prediction,no,yes\n0,9-000,(no|yes),",
    "compare_policies.py": r"lure, seed 0: done\n(.|\n)*price(.|\n)*retraining: final accuracies \d+\.\d%"
    r"(.|\n)*version 5, 500 examples",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_says(name: str, tmp_path: Path) -> None:
    if name == "customer_table.py":
        pytest.importorskip("datasets")
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(SHOWN[name], ran.stdout), ran.stdout
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind where it is run"


def test_the_server_answers_from_the_version_in_use_and_refuses_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    handler = runpy.run_path(str(EXAMPLES / "serve.py"), run_name="serve")["Answer"]
    handler.log_message = lambda *_: None
    handler.model = tmp_path / "model"
    labels = torch.arange(60) % 3
    chunk = lure.Examples(6 * torch.eye(4)[labels], labels)
    recipe = lure.Recipe(model="mlp:width=8", epochs=3, lr=0.05, threads=1)

    def ask(body: str) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        with closing(connection):
            connection.request("POST", "/", body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    question = json.dumps({"inputs": chunk.inputs[:3].tolist()})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert ask(question)[0] == 400  # there is no model yet
            for part in (chunk[:30], chunk[30:]):
                with lure.Learner.open(handler.model, recipe=recipe, test=chunk) as learner:
                    learner.learn(part)
            status, second = ask(question)
            assert (status, second["version"], second["classes"]) == (200, 2, ["0", "1", "2"])
            with lure.Learner.open(handler.model) as learner:
                logits = learner.predict(chunk[:3])
            assert torch.allclose(torch.tensor(second["probabilities"]), logits.softmax(1))
            rollback(handler.model, 1)
            assert ask(question)[1]["version"] == 1
            for body in ("", "no JSON", "[]", "{}", '{"inputs": [[1, 2], [3]]}', '{"inputs": [[1.0, 2.0]]}'):
                status, said = ask(body)
                assert (status, list(said)) == (400, ["error"]), body
            assert ask(question)[0] == 200
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_is_short_and_says_how_it_is_run(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert f"python examples/{name}" in text
    assert len(text.splitlines()) <= 65
