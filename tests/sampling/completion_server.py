"""An OpenAI-compatible server over real sockets: a model decoded token by token, with faults on demand.

usage: completion_server.py MODEL ADDRESS_FILE ANSWERS

Serves MODEL until it has given so many answers, then kills itself; writes its address to a file once it listens.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

#: What a server does in the place of an answer: send these bytes under this status and header, or cut the line (None).
Fault = tuple[int, dict[str, str], bytes] | None


class ServedPolicy:
    """The model and how it is decoded: one row, one token at a time, log-probabilities of the model's own logits."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._lock = threading.Lock()

    def complete(self, body: dict[str, Any], eos_id: int) -> tuple[list[int], list[torch.Tensor], str]:
        """Token ids, log-probabilities [V] of each, finish reason."""
        prompt = body["prompt"] if isinstance(body["prompt"], list) else self.tokenizer.encode(body["prompt"])
        generator = torch.Generator().manual_seed(body.get("seed", 0))
        ids, distributions, cache = [], [], None
        with self._lock, torch.inference_mode():
            read = torch.tensor([prompt])
            while len(ids) < body["max_tokens"]:
                answer = self.model(read, past_key_values=cache, use_cache=True)
                cache, logits = answer.past_key_values, answer.logits[0, -1].float()
                distributions.append(logits.log_softmax(-1))
                ids.append(_draw(logits, body, generator))
                if ids[-1] == eos_id:
                    return ids, distributions, "stop"
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
                if any(stop in text for stop in body.get("stop", ())):
                    return ids, distributions, "stop"
                read = torch.tensor([ids[-1:]])
        return ids, distributions, "length"


def _draw(logits: torch.Tensor, body: dict[str, Any], generator: torch.Generator) -> int:
    if body["temperature"] == 0.0:
        return int(logits.argmax())
    probabilities = (logits / body["temperature"]).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


class CompletionServer:
    """The server in a thread; a context manager. ``url`` is its address, ``bodies`` are the requests that it got.

    ``shape``: how tokens are named, as vLLM, llama.cpp, or by text alone (``text``). ``faults``: what comes in the
    place of the first answers to completions. ``largest``: how many likely tokens may be asked for, ``cut``: how many
    come at most. ``hides_end``: leave the end of sequence out. ``slow``: answer in another order than asked.
    ``answers``: after so many completions, the process kills itself.
    """

    def __init__(
        self,
        policy: ServedPolicy,
        *,
        shape: str = "vllm",
        faults: Iterable[Fault] = (),
        largest: int = 20,
        cut: int | None = None,
        hides_end: bool = False,
        slow: bool = False,
        models: Any = None,
        key: str | None = None,
        answers: int | None = None,
    ) -> None:
        self.policy, self.shape, self.faults = policy, shape, list(faults)
        self.largest, self.cut, self.hides_end, self.slow = largest, cut, hides_end, slow
        self.key, self.answers, self.bodies, self.lock = key, answers, [], threading.Lock()
        owner = {"vllm": "vllm", "llama.cpp": "llamacpp"}.get(shape, "someone")
        self.models = models or {"data": [{"id": "policy", "owned_by": owner, "max_model_len": 300}]}
        handler = type("Handler", (_Handler,), {"served": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> CompletionServer:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of one completion."""
        eos_id = self.policy.tokenizer.eos_token_id
        ids, distributions, reason = self.policy.complete(body, eos_id)
        if self.hides_end and ids[-1] == eos_id:
            ids, distributions = ids[:-1], distributions[:-1]
        text = self.policy.tokenizer.decode(ids, skip_special_tokens=True)
        if self.shape == "llama.cpp" and reason == "stop" and ids[-1] != eos_id:
            # It takes back as many tokens as the stop string is encoded to, whichever made it.
            [stop, *_] = [stop for stop in body["stop"] if stop in text]
            kept = max(len(ids) - len(self.policy.tokenizer.encode(stop)), 0)
            ids, distributions, text = ids[:kept], distributions[:kept], text[: text.index(stop)]
        count = body["logprobs"] if self.cut is None else min(self.cut, body["logprobs"])
        logprobs = self._write(ids, distributions, count)
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}
        return {"object": "text_completion", "choices": [choice]}

    def _write(self, ids: list[int], distributions: list[torch.Tensor], count: int) -> dict[str, Any]:
        tops = [distribution.topk(count).indices.tolist() for distribution in distributions]
        rows = list(zip(ids, distributions, tops, strict=True))
        if self.shape == "llama.cpp":
            return {
                "content": [
                    {**self._entry(chosen, row), "top_logprobs": [self._entry(token, row) for token in top]}
                    for chosen, row, top in rows
                ]
            }
        return {
            "tokens": [self._name(token) for token in ids],
            "token_logprobs": [row[token].item() for token, row, _ in rows],
            # As vLLM, with the chosen token among them, whatever its rank.
            "top_logprobs": [{self._name(t): row[t].item() for t in {chosen, *top}} for chosen, row, top in rows],
        }

    def _entry(self, token: int, row: torch.Tensor) -> dict[str, Any]:
        return {"id": token, "token": self._text(token), "bytes": [], "logprob": row[token].item()}

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.shape == "vllm" else self._text(token)

    def _text(self, token: int) -> str:
        return self.policy.tokenizer.decode([token])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: CompletionServer

    def log_message(self, *_: Any) -> None:
        """Keep the terminal quiet."""

    def do_GET(self) -> None:
        if self._authorised():
            self._send(200, {}, json.dumps(self.served.models).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._authorised():
            return
        served = self.served
        with served.lock:
            served.bodies.append(body)
            fault = served.faults.pop(0) if served.faults else ()
        if fault is None:
            self.close_connection = True
            return
        if fault:
            self._send(*fault)
            return
        if body["logprobs"] > served.largest:
            message = f"Requested logprobs of {body['logprobs']}, which is greater than max allowed: {served.largest}"
            self._send(400, {}, json.dumps({"error": {"message": message}}).encode())
            return
        if served.slow:
            time.sleep(random.uniform(0.0, 0.05))
        answer = json.dumps(served.answer(body)).encode()
        if served.answers is not None and len(served.bodies) > served.answers:
            os.kill(os.getpid(), signal.SIGKILL)
        self._send(200, {}, answer)

    def _authorised(self) -> bool:
        if self.served.key is None or self.headers.get("authorization") == f"Bearer {self.served.key}":
            return True
        self._send(401, {}, json.dumps({"error": {"message": "Unauthorized"}}).encode())
        return False

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


Serving = Callable[..., CompletionServer]

if __name__ == "__main__":
    _folder, _address, _answers = sys.argv[1:]
    torch.set_num_threads(1)
    with CompletionServer(ServedPolicy(Path(_folder)), answers=int(_answers)) as _server:
        Path(_address).write_text(_server.url)
        threading.Event().wait(300)
