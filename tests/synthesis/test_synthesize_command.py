"""tutelage synthesize: from a plan to files that learning reads."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request as Call
from urllib.request import urlopen

import pytest
import yaml
from synthesis_samples import Scripted

from tutelage.core.registry import names, register
from tutelage.core.writing import Written
from tutelage.data.text import chat
from typed import typed

PLAN = {
    "synthesis": 1,
    "name": "tiny",
    "licence": "CC0-1.0",
    "writer": {"test": {"model": "m"}},
    "writer_licence": "may train students",
    "prices": {"read": 1.0, "written": 2.0},
    "stages": [
        {"expand": {"count": 4, "each": 2}},
        "deduplicate",
        {"prefer": {"count": 3}},
        {"filter": {"shortest": 1}},
    ],
}


def rule(request):
    said = request.messages[0][1]
    if "numbered from 1" in said:
        return f"1. Tell me about topic {request.seed % 1000}\n2. What is two and two?"
    if "[answer]" in said:
        return f"Well.\nScore: {1 + request.seed % 9}"
    return f"answer {request.seed}"


@pytest.fixture
def plan(tmp_path):
    """A plan in a file, with a writer of ours."""
    asked = []

    @register("writer", "test")
    def test(model: str, url: str = ""):
        writer = Scripted(rule)
        asked.append(writer)
        return writer

    seeds = ["What is two and two?", "Name a prime.", "Spell tea."]
    lines = [json.dumps({"instruction": text}) + "\n" for text in seeds]
    (tmp_path / "seeds.jsonl").write_text("".join(lines))

    def write(**changes):
        path = tmp_path / "plan.yaml"
        content = {**PLAN, "seeds": str(tmp_path / "seeds.jsonl"), **changes}
        path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
        return path

    write.asked = asked
    return write


def test_a_plan_becomes_files_a_card_and_facts(plan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code, said, err = typed(monkeypatch, "synthesize", plan(), "--out", out)
    assert (code, err) == (0, "")
    facts = json.loads((out / "synthesis.json").read_text())
    assert facts["complete"] is True
    assert [s["stage"] for s in facts["stages"]] == [
        "seeds",
        "expand",
        "deduplicate",
        "prefer",
        "filter",
    ]
    assert facts["dropped"]["an exact copy"] == 2
    spent, guess = facts["spent"], facts["estimate"]
    assert 0 < spent["requests"] == len(plan.asked[0].asked) <= guess["requests"]
    assert spent["money"] == pytest.approx(
        (spent["tokens_read"] + 2 * spent["tokens_written"]) / 1e6, abs=1e-6
    )
    text = (out / "DATA_CARD.md").read_text()
    for word in (
        "may train students",
        "CC0-1.0",
        "2 exact copies",
        "rule-1",
        "Not checked against",
    ):
        assert word in text
    pairs = [json.loads(line) for line in (out / "preferences.jsonl").read_text().splitlines()]
    assert pairs
    assert all(p["chosen_score"] > p["rejected_score"] for p in pairs)
    assert facts["files"]["preferences.jsonl"]["rows"] == len(pairs)
    assert str(len(pairs)) in said


def test_the_data_source_chat_reads_what_was_written(plan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert typed(monkeypatch, "synthesize", plan(), "--out", out)[0] == 0
    splits = chat(str(out / "chat.jsonl"), "bytes", length=256, validation=1)
    rows = len((out / "chat.jsonl").read_text().splitlines())
    assert len(splits.train) + len(splits.validation) + len(splits.test) == rows > 2


def test_an_estimate_asks_nobody_and_writes_nothing(plan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ("synthesize", plan(), "--out", out, "--estimate")
    code, said, _ = typed(monkeypatch, *words)
    assert code == 0
    assert "all: " in said
    assert not out.exists()
    assert plan.asked == []
    found = json.loads(typed(monkeypatch, *words, "--json")[1])
    assert found["requests"] == 2 + 7 * 6


def test_a_budget_ends_with_status_1_and_resume_goes_on(plan, tmp_path, monkeypatch):
    words = ("synthesize", plan(budget={"requests": 5}), "--out", tmp_path / "out")
    code, _, err = typed(monkeypatch, *words)
    assert code == 1
    assert "budget.requests of 5 is reached in stage 'prefer'" in err
    assert "--resume" in err
    code, _, err = typed(monkeypatch, "synthesize", plan(), "--out", tmp_path / "out")
    assert (code, "go on with --resume" in err) == (2, True)
    changed = plan(writer={"test": {"model": "m", "url": "elsewhere"}})
    code, _, _ = typed(monkeypatch, "synthesize", changed, "--out", tmp_path / "out", "--resume")
    assert code == 0
    keys = [r.key for writer in plan.asked for r in writer.asked]
    assert len(keys) == len(set(keys))
    other = plan(writer={"test": {"model": "other"}})
    code, _, err = typed(monkeypatch, "synthesize", other, "--out", tmp_path / "out", "--resume")
    assert (code, "other writer" in err) == (2, True)


def test_until_does_the_first_stages_alone(plan, tmp_path, monkeypatch):
    words = ("synthesize", plan(), "--out", tmp_path / "out", "--until", "deduplicate", "--json")
    code, said, _ = typed(monkeypatch, *words)
    assert code == 0
    assert json.loads(said)["sent"] == 2


def test_a_stop_says_how_to_go_on(plan, tmp_path, monkeypatch):
    def stopped(self, requests):
        raise KeyboardInterrupt

    monkeypatch.setattr(Scripted, "write", stopped)
    code, _, err = typed(monkeypatch, "synthesize", plan(), "--out", tmp_path / "out")
    assert code == 130
    assert "--resume" in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stages": ["jugde"]}, "stages.0: there is no stage called 'jugde'. Did you mean 'judge'"),
        ({"stages": [{"judge": {"lest": 3}}]}, "lest: stage 'judge' has no such option"),
        ({"stages": [{"judge": {"least": "a"}}]}, "stages.0.judge.least: got 'a'"),
        ({"stages": [{"judge": {"least": 11}}]}, "least is 11"),
        ({"stages": [{"decontaminate": {}}]}, "against: this option is needed"),
        ({"stages": []}, "stages: got []: write at least one entry"),
        ({"stages": None}, "stages: this key is needed"),
        ({"stages": [{"judge": {}, "answer": {}}]}, "stages.0: got the names"),
        ({"writer": "opnai"}, "no writer called 'opnai'. Did you mean 'openai'"),
        ({"sedes": 1}, "no such key"),
        ({"seeds": "nowhere.jsonl"}, "does not exist"),
        ({"synthesis": 2}, "synthesis: got 2"),
        ({"budget": {"money": 1.0}, "prices": None}, "prices are 0"),
        ({"failures": 2.0}, "failures: got 2.0"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(plan, tmp_path, monkeypatch, change, told):
    code, said, err = typed(monkeypatch, "synthesize", plan(**change), "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_methods_lists_all_stages_with_their_papers(monkeypatch):
    code, said, _ = typed(monkeypatch, "methods", "stage", "--json")
    rows = {row["name"]: row for row in json.loads(said)}
    assert code == 0
    assert (
        set(rows)
        == set(names("stage"))
        == {
            "answer",
            "balance",
            "decontaminate",
            "deduplicate",
            "evolve",
            "expand",
            "filter",
            "judge",
            "prefer",
            "reason",
            "refine",
        }
    )
    assert rows["expand"]["arxiv"] == "2212.10560"
    assert rows["evolve"]["arxiv"] == "2304.12244"
    assert rows["reason"]["arxiv"] == "2305.02301"
    for row in rows.values():
        assert all(option.get("about") for option in row["options"].values()), row["name"]


class Served(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = f"I read {len(body['messages'][-1]['content'])} letters."
        message = {"message": {"content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 5}
        said = json.dumps({"model": "real", "choices": [message], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *words):
        pass


def test_a_writer_behind_a_real_http_server(plan, tmp_path, monkeypatch):
    @register("writer", "http")
    def http(url: str):
        class Http:
            name = "http"

            def write(self, requests):
                for request in requests:
                    messages = [{"role": r, "content": c} for r, c in request.messages]
                    body = json.dumps({"messages": messages, "seed": request.seed}).encode()
                    with urlopen(Call(url, body), timeout=10) as reply:
                        said = json.load(reply)
                    use, choice = said["usage"], said["choices"][0]
                    yield Written(
                        request.key,
                        choice["message"]["content"],
                        choice["finish_reason"],
                        said["model"],
                        use["prompt_tokens"],
                        use["completion_tokens"],
                    )

        return Http()

    server = HTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        path = plan(writer={"http": {"url": url}}, stages=["answer"])
        code, _, err = typed(monkeypatch, "synthesize", path, "--out", tmp_path / "out")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (code, err) == (0, "")
    facts = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert (facts["spent"]["tokens_read"], facts["spent"]["tokens_written"]) == (9, 15)
    assert facts["writers"][0]["model"] == "real"
