"""InvokeEndpoint beside LitServe, BentoML, a plain Starlette app and the call in the same process.

All of them serve one ONNX model (ResNet-18 with drawn weights, pictures of 3×96×96) that takes NPY and gives
JSON. The client speaks plain HTTP over connections that stay open, so that it takes as little of the machine
as it can; in turn with each other, so that all meet the same machine.

    python benchmarks/serving.py            about three minutes; the peers are installed the first time
    python benchmarks/serving.py --seconds 2 --rounds 1
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torchvision
from engine import Server

ROOT = Path(__file__).parent.parent
PEERS = ["litserve", "bentoml", "onnxruntime", "starlette", "uvicorn[standard]", "numpy"]
CLIENTS = 32
OURS = {"ours": {}, "ours in batches": {"SAGEMAKER_TS_BATCH_SIZE": "8"}}
SCOPE = "Credential=x/20261123/us-east-1/sagemaker/aws4_request, SignedHeaders=host, Signature=x"
"""Nobody checks a signature on one machine; its scope says which service is asked."""
MODEL = """
import io, json, os
import numpy as np, onnxruntime

def load(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    return onnxruntime.InferenceSession(f"{folder}/model.onnx", options)

def run(session, images):
    return session.run(None, {"images": images})[0]
"""
INFERENCE = """
import numpy as np
from model import load as model_fn, run

def predict_fn(images, session):
    return run(session, images)
"""
STARLETTE = """
import asyncio, io, json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from model import load, run

session, workers = load(sys.argv[2]), ThreadPoolExecutor(2)

def answer(body):
    return json.dumps(run(session, np.load(io.BytesIO(body))).tolist())

async def predict(request):
    body = await request.body()
    text = await asyncio.get_running_loop().run_in_executor(workers, answer, body)
    return Response(text, media_type="application/json")

app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
LITSERVE = """
import io, sys
import litserve, numpy as np
from fastapi import Request
from model import load, run

class Resnet(litserve.LitAPI):
    def setup(self, device):
        self.session = load(sys.argv[2])
    def decode_request(self, request: Request):
        return np.load(io.BytesIO(request["images"].file.read()))
    def predict(self, images):
        return run(self.session, images)
    def encode_response(self, output):
        return output.tolist()

if __name__ == "__main__":
    server = litserve.LitServer(Resnet(), accelerator="cpu", workers_per_device=2)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
"""
LITSERVE_IN_BATCHES = (
    LITSERVE.replace("file.read()))", "file.read()))[0]")
    .replace("return output.tolist()", "return [output.tolist()]")
    .replace("Resnet()", "Resnet(max_batch_size=8, batch_timeout=0.001)")
)
BENTOML = """
import os
from pathlib import Path
import bentoml, numpy as np
from model import load, run

@bentoml.service(workers=2, traffic={"timeout": 60})
class Resnet:
    def __init__(self):
        self.session = load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, images: Path) -> list:
        return run(self.session, np.load(images)).tolist()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement: 5")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured: 3")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes run at the start, the last minute")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        draw_model(Path(folder))
        images = np.random.default_rng(1).random((1, 3, 96, 96), dtype=np.float32)
        buffer = io.BytesIO()
        np.save(buffer, images)
        body = buffer.getvalue()
        local = InProcess(Path(folder), body)
        servers = {
            **running.enter_context(ours(Path(folder), body)),
            **{name: running.enter_context(peer(name, Path(folder), body)) for name in STARTED},
        }
        expected = json.loads(local.call())
        for name, target in servers.items():
            np.testing.assert_allclose(asyncio.run(target.once()), expected, rtol=1e-3, err_msg=name)
        latencies: dict[str, list[float]] = {}
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            latencies.setdefault("in process", []).append(local.latency(options.seconds))
            rates.setdefault("in process", []).append(local.rate(options.seconds))
            for name, target in servers.items():
                latencies.setdefault(name, []).append(asyncio.run(target.latency(options.seconds)))
                rates.setdefault(name, []).append(asyncio.run(target.rate(options.seconds)))
    show(latencies, rates)


def show(latencies: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    base = statistics.median(latencies["in process"])
    ours_rates = [statistics.median(rates[name]) for name in OURS]
    print(f"  {'':19} {'p50, one client':>16} {'over the call':>14}   {f'{CLIENTS} clients':>12}   ours are")
    for name in latencies:
        p50, rate = statistics.median(latencies[name]), statistics.median(rates[name])
        ratio = "" if name in OURS else " and ".join(f"{one / rate:.0%}" for one in ours_rates) + " of that"
        print(f"  {name:19} {p50 * 1e3:13.2f} ms {(p50 - base) * 1e3:11.2f} ms   {rate:10.1f}/s   {ratio}")


class InProcess:
    """The call itself: NPY in, JSON out."""

    def __init__(self, folder: Path, body: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._body = body

    def call(self) -> str:
        images = np.load(io.BytesIO(self._body))
        return json.dumps(self._session.run(None, {"images": images})[0].tolist())

    def latency(self, seconds: float) -> float:
        taken, end = [], time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            self.call()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    def rate(self, seconds: float) -> float:
        """As many threads as there are cores: the session computes without the interpreter's lock."""
        end = time.perf_counter() + seconds

        def work(_: int) -> int:
            count = 0
            while time.perf_counter() < end:
                self.call()
                count += 1
            return count

        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(cores) as pool:
            return sum(pool.map(work, range(cores))) / seconds


class Target:
    """An HTTP server that predicts; `request` is the whole request."""

    def __init__(self, port: int, path: str, body: bytes, content_type: str) -> None:
        self._port = port
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 {SCOPE}\r\n"
            f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body

    async def once(self) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            return json.loads(await self._ask(reader, writer))
        finally:
            writer.close()

    async def latency(self, seconds: float) -> float:
        taken, end = [], time.perf_counter() + seconds
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (begun := time.perf_counter()) < end:
            await self._ask(reader, writer)
            taken.append(time.perf_counter() - begun)
        writer.close()
        return statistics.median(taken)

    async def rate(self, seconds: float) -> float:
        """Of all clients together, after half a second of warming up."""
        begin = time.perf_counter() + 0.5
        counts = await asyncio.gather(*(self._client(begin, begin + seconds) for _ in range(CLIENTS)))
        return sum(counts) / seconds

    async def _client(self, begin: float, end: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        count = 0
        while (now := time.perf_counter()) < end:
            await self._ask(reader, writer)
            count += now >= begin
        writer.close()
        return count

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: *(\d+)", head)
        assert length, head
        body = await reader.readexactly(int(length[1]))
        assert b" 200 " in head.split(b"\r\n")[0], head + body
        return body


@contextlib.contextmanager
def ours(folder: Path, body: bytes) -> Iterator[dict[str, Target]]:
    """An endpoint whose model is asked for each request, and one that is asked in batches."""
    with Server() as server:
        s3, sagemaker = server.client("s3"), server.client("sagemaker")
        s3.create_bucket(Bucket="benchmark")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            archive.add(folder / "model.onnx", "model.onnx")
            for name, text in (("model.py", MODEL), ("inference.py", INFERENCE)):
                entry = tarfile.TarInfo(f"code/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        s3.put_object(Bucket="benchmark", Key="model.tar.gz", Body=buffer.getvalue())
        port = int(server.url.rpartition(":")[2])
        targets = {}
        for name, variables in OURS.items():
            endpoint = name.replace(" ", "-")
            container = {
                "Image": "onnx",
                "ModelDataUrl": "s3://benchmark/model.tar.gz",
                "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", **variables},
            }
            role = "arn:aws:iam::111111111111:role/serving"
            sagemaker.create_model(ModelName=endpoint, PrimaryContainer=container, ExecutionRoleArn=role)
            variant = {
                "VariantName": "AllTraffic",
                "ModelName": endpoint,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
            sagemaker.create_endpoint_config(EndpointConfigName=endpoint, ProductionVariants=[variant])
            sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
            sagemaker.get_waiter("endpoint_in_service").wait(
                EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
            )
            targets[name] = Target(port, f"/endpoints/{endpoint}/invocations", body, "application/x-npy")
        yield targets


@contextlib.contextmanager
def peer(name: str, folder: Path, body: bytes) -> Iterator[Target]:
    python = installed_peers()
    port = free_port()
    home = folder / name
    home.mkdir()
    (home / "model.py").write_text(MODEL)
    script, command, target = STARTED[name]
    (home / "service.py").write_text(script)
    arguments = [part.format(port=port, model=folder) for part in command]
    environment = {**os.environ, "MODEL": str(folder), "BENTOML_DO_NOT_TRACK": "true", "THREADS": "1"}
    process = subprocess.Popen(
        [str(python.parent / arguments[0]), *arguments[1:]],
        cwd=home,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(folder / f"{name}.log").open("wb"),
        start_new_session=True,
    )
    try:
        server = target(port, body)
        for _ in range(300):
            assert process.poll() is None, (folder / f"{name}.log").read_text()
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, AssertionError):
                asyncio.run(server.once())
                break
            time.sleep(0.2)
        yield server
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def _npy(path: str) -> Callable[[int, bytes], Target]:
    return lambda port, body: Target(port, path, body, "application/x-npy")


def _as_form(port: int, body: bytes) -> Target:
    """LitServe and BentoML take JSON and forms."""
    head = 'Content-Disposition: form-data; name="images"; filename="images.npy"\r\n\r\n'
    form = b"--edge\r\n" + head.encode() + body + b"\r\n--edge--\r\n"
    return Target(port, "/predict", form, "multipart/form-data; boundary=edge")


STARTED: dict[str, tuple[str, list[str], Callable[[int, bytes], Target]]] = {
    "Starlette": (STARLETTE, ["python", "service.py", "{port}", "{model}"], _npy("/predict")),
    "LitServe": (LITSERVE, ["python", "service.py", "{port}", "{model}"], _as_form),
    "LitServe in batches": (LITSERVE_IN_BATCHES, ["python", "service.py", "{port}", "{model}"], _as_form),
    "BentoML": (BENTOML, ["bentoml", "serve", "service:Resnet", "--port", "{port}"], _as_form),
}


def installed_peers() -> Path:
    """The interpreter of an environment with the peers."""
    folder = ROOT / ".cache" / "benchmarks" / "serving"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEERS], check=True)
        (folder / "ready").touch()
    return python


def draw_model(folder: Path) -> None:
    torch.manual_seed(1)
    network = torchvision.models.resnet18(num_classes=10).eval()
    warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter, which is quick
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 96, 96),),
        str(folder / "model.onnx"),
        input_names=["images"],
        output_names=["scores"],
        dynamic_axes={"images": {0: "batch"}},
        dynamo=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
