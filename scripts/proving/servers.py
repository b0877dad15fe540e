"""Servers that others wrote, beside the simulator: what they answer is not what anybody here has thought of."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.ports import kept_port
from scripts.proving.runs import SOME_FAILED, ItemError, Run, check, simulator
from scripts.proving.strangers import (
    MissingServerError,
    end,
    node_program,
    python_program,
    serving,
    system_program,
)

ROWS = 400
PROMPT = "Say it: {text}"
STOPPED = 4  # the command's exit code when the provider is at fault
SOON_S = 8.0
KEY = "sk-a-key-that-opens-the-proxy-0123456789"
_KEY_VARIABLE = "ROWMILL_PROOF_KEY"
# Runs where transformers is: a model of a few thousand random weights, with bytes for words.
_TINY = """
import sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
words = Tokenizer(models.BPE())
words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
words.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
words.train_from_iterator(["hello world"], trainer)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
tokenizer.save_pretrained(sys.argv[1])
torch.manual_seed(0)
size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **size)).save_pretrained(
    sys.argv[1]
)
"""


def servers(folder: Path) -> bool:
    """Run against each of them; one that is not there and cannot be installed is said, and fails nothing."""
    holds = True
    for name, proof in _PROOFS.items():
        here = folder / name
        here.mkdir()
        print(f" {name}", flush=True)
        try:
            holds &= proof(here)
        except MissingServerError as error:
            print(f"  not here: {error}", flush=True)
    return holds


def _run(folder: Path, name: str, url: str, *, rows: int = ROWS, model: str = "sim-small", **provider: Any) -> Run:
    source = folder / "rows.jsonl"
    if not source.exists():
        corpus.write(corpus.synthetic(ROWS, 60), source)
    few = folder / f"rows-{rows}.jsonl"
    few.write_text("".join(source.read_text().splitlines(keepends=True)[:rows]))
    table = {"name": "main", "base_url": url, "timeout_s": 30, **provider}
    return Run(folder / name, few, [table], PROMPT, workers=2, concurrency="auto", tables={"task": {"model": model}})


def _all_answered(run: Run, name: str, rows: int = ROWS) -> bool:
    """Run to the end: every row has its answer, in order."""
    begun = time.monotonic()
    try:
        code = run.finish(SOME_FAILED)
    except ItemError as error:
        return check(name, False, str(error))
    lines = [json.loads(line) for line in run.output.read_text().splitlines()]
    session = run.session
    right = (
        code == 0
        and [line["index"] for line in lines] == list(range(rows))
        and all(line["output"] and line["error"] is None for line in lines)
    )
    took = f"{time.monotonic() - begun:.1f} s, {session['counters']['requests']} requests"
    return check(name, right, f"exit code {code}, {len(lines)} rows, {took}")


def _told_soon(run: Run, name: str, *words: str) -> bool:
    """Run to an end that comes soon, with the code of a provider at fault, and these words."""
    begun = time.monotonic()
    with run.started() as process:
        code = process.wait(60)
    took = time.monotonic() - begun
    told = (run.folder / "stderr.txt").read_text(errors="replace")
    last = next((line for line in told.splitlines() if line.startswith("Stopped")), told[-200:])
    right = code == STOPPED and took < SOON_S and all(word in told for word in words)
    return check(name, right, f"exit code {code} in {took:.1f} s: {last}")


def _nginx(folder: Path) -> bool:
    """Meet its refusals and pages, short-lived connections, compression, TLS, and a server behind it that is away."""
    program = system_program("nginx", "nginx")
    plain, limited, tls, away = (kept_port() for _ in range(4))
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    openssl = system_program("openssl", "openssl")
    subprocess.run([openssl, *words.split(), *names], check=True, capture_output=True)
    with simulator(SimulatorSettings(latency_ms=20)) as witness:
        upstream = witness.url.removesuffix("/v1")
        (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; error_log error.log; pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
    scgi_temp_path s;
    limit_req_zone $server_addr zone=all:1m rate=100r/s;
    gzip on; gzip_types application/json; gzip_min_length 1; gzip_proxied any;
    keepalive_requests 20; keepalive_timeout 1s;
    proxy_http_version 1.1; proxy_set_header Connection "";
    server {{ listen 127.0.0.1:{plain}; location / {{ proxy_pass {upstream}; }} }}
    server {{ listen 127.0.0.1:{limited}; location / {{
        limit_req zone=all burst=10 nodelay; limit_req_status 429; proxy_pass {upstream}; }} }}
    server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
        location / {{ proxy_pass {upstream}; }} }}
    server {{ listen 127.0.0.1:{away}; location / {{ proxy_pass http://127.0.0.1:1; }} }}
}}
""")
        command: list[str | Path] = [program, "-p", folder, "-c", folder / "nginx.conf"]
        with serving(command, folder / "log.txt", f"http://127.0.0.1:{plain}/v1/models"):
            secure = f"https://localhost:{tls}/v1"
            return all(
                [
                    _all_answered(_run(folder, "plain", f"http://127.0.0.1:{plain}/v1"), "short keep-alives and gzip"),
                    _all_answered(
                        _run(folder, "limited", f"http://127.0.0.1:{limited}/v1"), "limit_req, 429s as pages"
                    ),
                    _all_answered(_run(folder, "tls", secure, ca_file=str(certificate)), "TLS by a CA of one's own"),
                    _told_soon(_run(folder, "distrusted", secure), "TLS by a CA that nobody knows", "certificate"),
                    _told_soon(_run(folder, "path", f"http://127.0.0.1:{plain}"), "a path without /v1", "/v1"),
                    _waited_for(_run(folder, "away", f"http://127.0.0.1:{away}/v1", rows=20), "nothing behind it"),
                ]
            )


def _waited_for(run: Run, name: str) -> bool:
    """Run to the end of a minute: a gateway that answers for a server that is away may speak of an outage."""
    begun = time.monotonic()
    with run.started() as process:
        code = process.wait(90)
    told = (run.folder / "stderr.txt").read_text(errors="replace")
    right = code == STOPPED and "502 Bad Gateway" in told
    return check(name, right, f"exit code {code} in {time.monotonic() - begun:.1f} s")


def _litellm(folder: Path) -> bool:
    """Run through a router with keys and limits of its own, and batches through it."""
    program = python_program("litellm", "litellm", "litellm[proxy]", "prisma")
    with simulator(SimulatorSettings(latency_ms=20, batch_s=1)) as witness, _key(KEY):
        port = kept_port()
        behind = {"model": "openai/sim-small", "api_base": witness.url, "api_key": "k"}
        settings: dict[str, Any] = {
            "model_list": [
                {"model_name": "sim-small", "litellm_params": behind},
                {"model_name": "limited", "litellm_params": {**behind, "rpm": 60}},
            ],
            "litellm_settings": {"num_retries": 0},
            "router_settings": {"num_retries": 0, "enable_pre_call_checks": True},
            "general_settings": {"master_key": KEY},
            "files_settings": [{"custom_llm_provider": "openai", "api_base": witness.url, "api_key": "k"}],
        }
        (folder / "config.yaml").write_text(json.dumps(settings))  # which is YAML too
        command: list[str | Path] = [
            program,
            "--config",
            folder / "config.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with serving(command, folder / "log.txt", f"http://127.0.0.1:{port}/health/liveliness"):
            url = f"http://127.0.0.1:{port}/v1"
            keyed: dict[str, Any] = {"api_key_env": _KEY_VARIABLE}
            batch = _run(folder, "batch", url, **keyed)
            batch.set("task.mode", "batch")
            batch.set("batch.poll_s", 1)
            limited = _run(folder, "limited", url, rows=80, model="limited", **keyed)
            return all(
                [
                    _all_answered(_run(folder, "plain", url, **keyed), "chat completions"),
                    _all_answered(limited, "a limit of 60 requests a minute, 80 rows", 80),
                    _told_soon(
                        _run(folder, "model", url, rows=20, model="nothere", **keyed), "no such model", "nothere"
                    ),
                    _all_answered(batch, "batches"),
                ]
            )


def _transformers(folder: Path) -> bool:
    """Run against a real model server; the weights are small and random, so its texts are bytes of any kind."""
    program = python_program("transformers", "transformers", "torch", "transformers[serving]")
    model = folder / "tiny"
    subprocess.run([program.with_name("python"), "-c", _TINY, model], check=True, capture_output=True)
    port = kept_port()
    command: list[str | Path] = [program, "serve", model, "--device", "cpu", "--port", str(port)]
    environment = {"HF_HUB_OFFLINE": "1"}
    with serving(command, folder / "log.txt", f"http://localhost:{port}/health", environment):
        url = f"http://localhost:{port}/v1"
        plain = _run(folder, "plain", url, rows=60, model=str(model))
        plain.set("task.params.max_tokens", 12)
        return all(
            [
                _all_answered(plain, "chat completions", 60),
                _told_soon(_run(folder, "model", url, rows=20, model="nothere"), "no such model", "nothere"),
            ]
        )


def _aimock(folder: Path) -> bool:
    """Run against a mock of the API that fails at random, in ways of its own."""
    program = node_program("aimock", "llmock", "@copilotkit/aimock")
    fixture = {"match": {"userMessage": "Say"}, "response": {"content": "said"}}
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": [fixture]}))
    port = kept_port()
    faults = ("drop", "malformed", "disconnect", "ratelimit")
    command: list[str | Path] = [program, "-p", str(port), "-f", folder / "fixtures.json", "--log-level", "warn"]
    command += [word for fault in faults for word in (f"--chaos-{fault}", "0.02")]
    with serving(command, folder / "log.txt", f"http://127.0.0.1:{port}/v1/models"):
        url = f"http://127.0.0.1:{port}/v1"
        batch = _run(folder, "batch", url, rows=60, model="gpt-5-mini")
        batch.set("task.mode", "batch")
        batch.set("batch.poll_s", 1)
        return all(
            [
                _all_answered(_run(folder, "chaos", url, model="gpt-5-mini"), "four kinds of faults, 2% each"),
                _all_answered(batch, "batches", 60),
            ]
        )


def _squid(folder: Path) -> bool:
    """Run through a proxy that the environment names; the server's name is known to it alone."""
    program = system_program("squid", "squid")
    port = kept_port()
    (folder / "hosts").write_text("127.0.0.1 model.test\n")
    (folder / "squid.conf").write_text(f"""
http_port 127.0.0.1:{port}
http_access allow all
hosts_file {folder}/hosts
pid_filename {folder}/squid.pid
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
cache deny all
shutdown_lifetime 1 seconds
""")
    for path in (folder, *folder.parents):  # it gives up its rights before it reads them
        with contextlib.suppress(OSError):
            path.chmod(path.stat().st_mode | (0o777 if path == folder else 0o011))
    with simulator(SimulatorSettings(latency_ms=20)) as witness:
        url = f"http://model.test:{witness.url.rpartition(':')[2]}"
        command: list[str | Path] = [program, "-N", "-f", folder / "squid.conf"]
        with (
            serving(command, folder / "log.txt", f"http://127.0.0.1:{port}/") as process,
            _environment({"HTTP_PROXY": f"http://127.0.0.1:{port}", "http_proxy": f"http://127.0.0.1:{port}"}),
            _key("k"),
        ):
            keyed: dict[str, Any] = {"api_key_env": _KEY_VARIABLE}
            by_sdk = _run(folder, "sdk", url, **keyed)
            by_sdk.set("client.transport", "sdk")
            passed = [
                _all_answered(_run(folder, "direct", url, **keyed), "through the proxy, transport direct"),
                _all_answered(by_sdk, "through the proxy, transport sdk"),
                check("all of it went through", witness.stats()["requests"] >= 2 * ROWS, "by the server's count"),
            ]
            end(process)
            passed.append(_told_soon(_run(folder, "dead", url, rows=20, **keyed), "the proxy is away", "proxy"))
            return all(passed)


def _openai(folder: Path) -> bool:
    """Go the other way round: the package as a client of the simulator, streams too."""
    import openai  # which takes half a second: more than `--help` does

    del folder
    with simulator(SimulatorSettings(latency_ms=0)) as witness:
        client = openai.OpenAI(base_url=witness.url, api_key="k", max_retries=0)
        whole = client.chat.completions.create(model="sim-small", messages=[{"role": "user", "content": "a row"}])
        stream = client.chat.completions.create(
            model="sim-small", messages=[{"role": "user", "content": "a row"}], stream=True
        )
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        events = client.responses.create(model="sim-small", input="a row", stream=True)
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        answer = client.responses.create(model="sim-small", input="a row")
        names = [model.id for model in client.models.list()]
        return all(
            [
                check("a chat streamed", streamed == whole.choices[0].message.content != "", repr(streamed)),
                check("a response streamed", said == answer.output_text != "", repr(said)),
                check("models", client.models.retrieve(names[0]).id == names[0], ", ".join(names)),
            ]
        )


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _key(key: str) -> contextlib.AbstractContextManager[None]:
    return _environment({_KEY_VARIABLE: key})


_PROOFS: dict[str, Callable[[Path], bool]] = {
    "nginx": _nginx,
    "squid": _squid,
    "aimock": _aimock,
    "litellm": _litellm,
    "transformers": _transformers,
    "openai": _openai,
}
