"""A real server of a real (tiny) language model, with faults that a test can ask for.

Run as a program it serves; imported it starts one for the tests of this process.
"""

import atexit
import functools
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from tutelage.core.text import Encoded


class Letters:
    """A tokenizer of bytes and a few words, with a token that begins and one that ends."""

    name, words = "letters", (" the", " cat", "at", " a", "in")

    def __init__(self, shift=0):
        self.shift = shift  # another tokenizer, with the same numbers for other texts
        self.size, self.begin, self.end, self.padding = 256 + len(self.words) + 2, 261, 262, 262
        self.special = frozenset((self.begin, self.end))
        self._cut = re.compile("|".join(map(re.escape, self.words)) + "|.", re.S)

    def encode(self, text):
        tokens, spans, place = [], [], 0
        for part in self._cut.findall(text):
            found = [256 + self.words.index(part)] if part in self.words else list(part.encode())
            for one in found:
                size = len(self.token_bytes(one))
                tokens.append((one + self.shift) % 256 if one < 256 else one)
                spans.append((place, place + size))
                place += size
        return Encoded(tuple(tokens), tuple(spans))

    def token_bytes(self, token):
        if token >= 261:
            return b""
        return (
            self.words[token - 256].encode()
            if token >= 256
            else bytes([(token - self.shift) % 256])
        )

    def decode(self, tokens):
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def fingerprint(self):
        return hashlib.sha256(f"letters {self.shift}".encode()).hexdigest()


@functools.lru_cache
def model():
    """A Llama of 2 layers whose distributions are neither flat nor sure."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        attn_implementation="eager", pad_token_id=262, bos_token_id=261, eos_token_id=262,
    )  # fmt: skip
    torch.manual_seed(3)
    made = LlamaForCausalLM(config).eval()
    for layer in made.model.layers:
        for weight in layer.self_attn.parameters():
            weight.data *= 8  # or what came before the last token would hardly count
    made.lm_head.weight.data *= 40
    return made


@torch.no_grad()
def scores(tokens):
    """Log-probabilities ``(T, V)`` of what follows each token."""
    return model()(input_ids=torch.tensor([list(tokens)])).logits[0].float().log_softmax(-1)


def trouble(message):
    return {"error": {"message": message}}


BROKEN = trouble("broken")


class Said:
    """What is asked of the server, and how it should go wrong."""

    def __init__(self):
        self.lock, self.seen, self.ways, self.plan = threading.Lock(), [], {}, []


class Handler(BaseHTTPRequestHandler):
    protocol_version, letters, said, wbufsize = "HTTP/1.1", Letters(), Said(), 1 << 20

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.said.lock:
            self.reply(200, {"seen": self.said.seen})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = self.said
        if self.path == "/exact":
            return self.reply(200, {"log_p": scores(body["tokens"]).tolist()})
        if self.path == "/ways":
            with said.lock:
                said.plan, said.ways, said.seen = body.pop("plan", []), body, []
            return self.reply(200, {})
        key = self.headers.get("Authorization", "")
        with said.lock:
            fault = said.plan.pop(0) if said.plan else said.ways.get("always", {})
            asked = body.get("messages") or body.get("prompt")
            line = self.client_address[1]
            seen = {"path": self.path, "asked": asked, "at": time.time(), "key": key, "line": line}
            said.seen.append(seen)
        time.sleep(fault.get("slow", 0))
        if fault.get("cut") == "before":
            return self.cut()
        if "status" in fault:
            return self.reply(fault["status"], fault.get("body", BROKEN), fault)
        if said.ways.get("key") and key != f"Bearer {said.ways['key']}":
            return self.reply(401, trouble(f"incorrect API key {key}"))
        if body.get("model") != "tiny":
            return self.reply(404, trouble(f"no model {body.get('model')}"))
        try:
            with said.lock:
                status, answer = self.answer(body)
        except Exception as error:
            status, answer = 500, trouble(repr(error))
        return self.reply(status, {**answer, **fault.get("change", {})}, fault)

    def cut(self):
        """Hang up without a word."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reply(self, status, data, fault=None):
        fault = fault or {}
        cut, content = fault.get("cut"), json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in fault.get("headers", {}).items():
            self.send_header(name, value)
        self.end_headers()
        content = content[: len(content) // 2] if cut == "half" else content
        size = 16 if "trickle" in fault else len(content)
        for start in range(0, len(content), size):
            self.wfile.write(content[start : start + size])
            self.wfile.flush()
            time.sleep(fault.get("trickle", 0))
        if cut:
            self.cut()

    def answer(self, body):
        ways, chat = self.said.ways, self.path.endswith("/v1/chat/completions")
        text, k = body.get("prompt"), body.get("prompt_logprobs") or body.get("logprobs") or 0
        if chat:
            text = "".join(f"{m['role']}: {m['content']}\n" for m in body["messages"])
            k = body.get("top_logprobs", 0)
        if isinstance(text, list) and ways.get("texts_only"):
            return 400, trouble("prompt: expected a string")
        prompt = list(self.letters.encode(text).tokens if isinstance(text, str) else text)
        prompt = [261, *prompt] if ways.get("bos") else prompt
        if k > (most := ways.get("most", 40)):
            return 400, trouble(f"requested logprobs of {k}, allowed {most}")
        if len(prompt) + body.get("max_tokens", 16) > 256:
            return 400, trouble("This model's maximum context length is 256 tokens.")
        tokens, drawn = list(prompt), torch.Generator().manual_seed(body.get("seed") or 0)
        finish = "length"
        for _ in range(body.get("max_tokens", 16)):
            log_p = scores(tokens)[-1]
            heat = body.get("temperature", 1.0)
            chance = (log_p / (heat or 1.0)).softmax(-1)
            one = torch.multinomial(chance, 1, generator=drawn) if heat else log_p.argmax()
            tokens.append(int(one))
            if tokens[-1] == 262:
                finish = "stop"
                break
        written = tokens[len(prompt) :]
        text = self.letters.decode(written)
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": finish, **said}
        self.tell(choice, body, prompt, tokens, k, chat)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(written)}
        answer = {"id": "1", "model": "tiny-1", "choices": [choice], "usage": usage}
        if ways.get("no_usage"):
            del answer["usage"]
        return 200, answer

    def tell(self, choice, body, prompt, tokens, k, chat):
        every = scores(tokens) * self.said.ways.get("hot", 1.0)
        after = self.said.ways.get("late", False)

        def row(place, own):
            log_p = every[place if after and own else place - 1]
            found = dict(zip(*[one.tolist() for one in log_p.topk(k)][::-1], strict=True))
            return {**found, tokens[place]: float(log_p[tokens[place]])}

        def word(token):
            if body.get("return_tokens_as_token_ids") and not self.said.ways.get("spelled"):
                return f"token_id:{token}"
            return self.letters.token_bytes(token).decode("utf-8", "replace")

        if body.get("prompt_logprobs"):
            letters = Letters(self.said.ways.get("shift", 0))
            choice["prompt_logprobs"] = [None] + [
                {
                    str(t): {"logprob": p, "decoded_token": letters.decode([t])}
                    for t, p in row(i, True).items()
                }
                for i in range(1, len(prompt))
            ]
            if body.get("return_token_ids") and not self.said.ways.get("no_ids"):
                choice["prompt_token_ids"] = prompt
        wanted = body.get("logprobs") and not self.said.ways.get("silent")
        if wanted and chat:
            choice["logprobs"] = {"content": [
                {"token": word(tokens[i]), "logprob": row(i, False)[tokens[i]],
                 "top_logprobs": [{"token": word(t), "logprob": p} for t, p in row(i, False).items()]}
                for i in range(len(prompt), len(tokens))
            ]}  # fmt: skip
        elif wanted:
            places = range(0 if body.get("echo") else len(prompt), len(tokens))
            rows = [None if i == 0 else row(i, i < len(prompt)) for i in places]
            choice["logprobs"] = {
                "tokens": [word(tokens[i]) for i in places],
                "token_logprobs": [r and r[tokens[i]] for i, r in zip(places, rows, strict=True)],
                "top_logprobs": [r and {word(t): p for t, p in r.items()} for r in rows],
            }


_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Running:
    """The server of this process's tests."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def ways(self, **ways):
        """How to behave from now on; what was seen is forgotten."""
        data = json.dumps(ways).encode()
        with _open(urllib.request.Request(f"{self.url}/ways", data)) as got:
            got.read()

    def exact(self, tokens):
        """Log-probabilities ``(T, V)`` of what follows each token, from the model itself."""
        data = json.dumps({"tokens": list(tokens)}).encode()
        with _open(urllib.request.Request(f"{self.url}/exact", data)) as got:
            return torch.tensor(json.load(got)["log_p"])

    @property
    def seen(self):
        with _open(f"{self.url}/seen") as got:
            return json.load(got)["seen"]


@functools.lru_cache
def running():
    """The server, started once."""
    command = [sys.executable, str(Path(__file__).resolve())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(
        lambda: (process.kill(), process.wait(), process.stdin.close(), process.stdout.close())
    )
    port = process.stdout.readline()
    assert port, "the server did not start"
    return Running(int(port))


def main():
    torch.set_num_threads(1)
    scores([1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    # Whoever started it is gone when this ends: so does the server.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
