"""A server in twenty lines: the version in use of a kept model answers over HTTP, and follows `lure update`.

An example to start from, not a feature: no encryption, no access control, one thread. It writes nothing into the
model's directory; when the ledger has grown, the next answer comes from the version then in use.

    python examples/serve.py MODEL     # a directory of `lure init`; without it a trial, asked three times
    curl localhost:8000 --data '{"inputs": [[0.1, 0.2, 0.3, 0.4]]}'
"""

import json
import sys
import tempfile
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import torch

import lure
from lure.learner.version import Version


class Answer(BaseHTTPRequestHandler):
    """Answer {"inputs": [row, ...]} with version, classes and probabilities; status 400 for what cannot be answered."""

    model, size = Path(sys.argv[1] if len(sys.argv) > 1 else ""), -1

    def do_POST(self) -> None:
        """Predict with the version in use."""
        try:
            if (size := (self.model / "ledger.jsonl").stat().st_size) != Answer.size:  # a line was committed
                Answer.version, Answer.size = Version.load(self.model, device="cpu"), size
            inputs = torch.tensor(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"])
            unlabelled = lure.Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))
            probabilities = torch.cat(list(self.version.logits(unlabelled))).softmax(1).tolist()
            facts = {"version": self.version.stage.version, "classes": self.version.class_names}
            status, said = 200, {**facts, "probabilities": probabilities}
        except (KeyError, OSError, TypeError, ValueError, RuntimeError) as error:  # InputError is a ValueError
            status, said = 400, {"error": str(error)}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())


if __name__ == "__main__" and len(sys.argv) > 1:
    HTTPServer(("127.0.0.1", 8000), Answer).serve_forever()
elif __name__ == "__main__":
    Answer.log_message = lambda *_: None
    with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), Answer) as server:
        Answer.model, labels = Path(folder) / "model", torch.arange(300) % 3
        points = 3 * torch.eye(4)[labels] + torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
        recipe = lure.Recipe(model="mlp:width=16", epochs=5, lr=0.05, threads=1)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for rows, question in ((slice(0, 150), points[:1]), (slice(150, 300), points[:1]), (None, torch.ones(1, 2))):
            if rows:
                with lure.Learner.open(Answer.model, recipe=recipe, test=lure.Examples(points, labels)) as learner:
                    learner.learn(lure.Examples(points[rows], labels[rows]))
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            connection.request("POST", "/", json.dumps({"inputs": question.tolist()}))
            answer = connection.getresponse()
            print(answer.status, answer.read().decode())
            connection.close()
        server.shutdown()
