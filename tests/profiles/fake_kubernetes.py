"""As much of a Kubernetes API as Nextflow's executor uses: pods are processes here, their specs are kept."""

import json
import os
import signal
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FakeKubernetes:
    """A server on loopback; `lose` names a step whose first pod vanishes, as when its node is taken away."""

    def __init__(self, tools: Path, lose: str = ""):
        self.tools = tools
        self.lose = lose
        self.specs: list[dict] = []
        self.running: dict[str, subprocess.Popen] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                pod = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.create(pod)
                self.answer(201, pod)

            def do_GET(self):
                name = self.path.split("/pods/")[-1].split("/")[0]
                if "/log" in self.path:
                    self.answer(200, {})
                elif name in fake.running:
                    self.answer(200, {"metadata": {"name": name}, "status": fake.status(name)})
                else:
                    details = {"name": name, "kind": "pods"}
                    self.answer(404, {"kind": "Status", "code": 404, "reason": "NotFound", "details": details})

            def do_DELETE(self):
                fake.delete(self.path.split("/pods/")[-1].split("?")[0])
                self.answer(200, {})

            def answer(self, code: int, body: dict):
                text = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, path: Path) -> Path:
        server = f"http://127.0.0.1:{self.server.server_address[1]}"
        path.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n"
            "contexts: [{name: fake, context: {cluster: fake, user: fake}}]\n"
            f"clusters: [{{name: fake, cluster: {{server: '{server}'}}}}]\n"
            "users: [{name: fake, user: {token: none}}]\n"
        )
        return path

    def create(self, pod: dict):
        self.specs.append(pod)
        name = pod["metadata"]["name"]
        container = pod["spec"]["containers"][0]
        environment = os.environ | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        environment["PATH"] = f"{self.tools}:{environment['PATH']}"
        command = container.get("command", []) + container.get("args", [])
        if self.lose and self.lose in pod["metadata"]["labels"]["nextflow.io/processName"]:
            self.lose = ""
            command = ["sleep", "infinity"]
            threading.Timer(2, self.delete, [name]).start()
        self.running[name] = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def status(self, name: str) -> dict:
        code = self.running[name].poll()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if code is None:
            return {"phase": "Running", "containerStatuses": [{"name": name, "state": {"running": {"startedAt": now}}}]}
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": now, "finishedAt": now}
        phase = "Failed" if code else "Succeeded"
        return {"phase": phase, "containerStatuses": [{"name": name, "state": {"terminated": ended}}]}

    def delete(self, name: str):
        process = self.running.pop(name, None)
        if process and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self):
        self.server.shutdown()
        for name in list(self.running):
            self.delete(name)
