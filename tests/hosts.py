"""A host as nnsight's client speaks to NDIF: it answers on this machine, and runs a request where our code is not."""

import base64
import contextlib
import hashlib
import json
import struct
import subprocess
import sys
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nnsight.schema.response import ResponseModel, Status

RUNNER = """
import json, sys
import torch, zstandard
from nnsight.modeling.transformers import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing.tracer import dec, inc
from transformers import AutoModelForCausalLM

folder, asked, blob, out = sys.argv[1:]
torch.set_num_threads(1)
hosted = TransformersModel(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), device="cpu")
hosted._remoteable_set_env(json.loads(asked)["env"])
objects = hosted._remoteable_persistent_objects()
tracer = RequestModel.deserialize(open(blob, "rb").read(), objects, compress=json.loads(asked)["compress"])
assert not [name for name in sys.modules if name.split(".")[0] in ("probes", "analysis", "data")]
inc()
with torch.no_grad():
    tracer.execute(tracer.info.code)
dec()
torch.save({name: tracer.info.frame.f_locals[name] for name in ("kept", "logits")}, out)
whole = open(out, "rb").read()
open(out, "wb").write(zstandard.ZstdCompressor().compress(whole))
"""


class Host(ThreadingHTTPServer):
    """Holds one model, in a folder; `asked` and `keys` keep what came. `fault` is what it says instead of running."""

    daemon_threads = True

    def __init__(self, model: Path, room: Path, fault: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.room, self.fault = model, room, fault
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.subscribed: _Handler | None = None
        room.mkdir()
        (room / "runner.py").write_text(RUNNER)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self, asked: str, blob: bytes) -> bytes:
        """Run one request in a process of its own, whose path has nothing of ours."""
        (self.room / "blob").write_bytes(blob)
        command = [sys.executable, "-P", "runner.py", str(self.model), asked, "blob", "answer"]
        done = subprocess.run(command, cwd=self.room, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return (self.room / "answer").read_bytes()


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Open the websocket on which the client waits, and keep it until the client leaves."""
        self.server.keys.add(self.headers["ndif-api-key"])
        told = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(told.encode()).digest()).decode()
        self.wfile.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        self.server.subscribed = self
        self.send(json.dumps({"session_id": "one"}))
        with contextlib.suppress(OSError):
            self.rfile.read()
        self.close_connection = True

    def send(self, message: str | bytes) -> None:
        """One frame of text, or of bytes."""
        whole = message.encode() if isinstance(message, str) else message
        kind = 0x81 if isinstance(message, str) else 0x82
        self.wfile.write(struct.pack("!BBQ", kind, 127, len(whole)) + whole)
        self.wfile.flush()

    def do_POST(self) -> None:
        """Take a request, say so, run it, and send what came of it over the websocket."""
        self.server.keys.add(self.headers["ndif-api-key"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = message_from_bytes(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
        parts: Any = form.get_payload()
        asked, blob = (part.get_payload(decode=True) for part in parts)
        self.server.asked.append(json.loads(asked))
        received = ResponseModel(id="job", status=Status.RECEIVED).model_dump_json().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(received)))
        self.end_headers()
        self.wfile.write(received)
        self.wfile.flush()
        waiting = self.server.subscribed
        assert waiting is not None
        waiting.send(ResponseModel(id="job", status=Status.RUNNING).model_dump_json())
        if self.server.fault:
            waiting.send(ResponseModel(id="job", status=Status.ERROR, description=self.server.fault).model_dump_json())
            return
        answer = self.server.run(asked.decode(), blob)
        waiting.send(ResponseModel(id="job", status=Status.COMPLETED, data=answer).pickle())


NOT_HOSTED = (
    "nnsight_remote reads a model where the hub's weights are hosted, and this one was opened from files, copied or "
    "changed: open it by its hub name and leave it as it is, or use transformer_lens, nnsight or hooks"
)
NO_KEY = "nnsight_remote needs a key of NDIF, which nnsight keeps: run `nnsight login`, or set NDIF_API_KEY"
