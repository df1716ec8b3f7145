"""creditmodel-train signal against a real HTTP server that answers as servers do when they have a bad day."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from creditmodel_bundle.measurement import Failure, Signal, parse
from creditmodel_training import webhook
from creditmodel_training.cli.train import main
from creditmodel_training.webhook import signature

EPISODE = "77fc3e72aa344ba9"
DIGEST = "sha256:" + "0a" * 32
DATA = {"namespace": "credit", "name": "default", "episode": EPISODE, "digest": DIGEST, "evidence": {"psi_max": 0.4}}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": EPISODE,
    "source": "/apis/creditmodel.dev/namespaces/credit/creditmodels/default",
    "type": "dev.creditmodel.retraining.required",
    "subject": "credit/default",
    "datacontenttype": "application/json",
    "data": DATA,
}

Answer = tuple[int, dict[str, str], str] | str
"""Status, headers and body, or a fault: drop (hang up), hang (say nothing), drip (a byte now and then)."""


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """Answers in the given order, and for ever as the last."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(Post(self.path, dict(self.headers.items()), body, time.monotonic()))
            answer = found.answer()
            if isinstance(answer, str):
                return self._fault(answer)
            status, headers, text = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())
            return None

        def _fault(self, fault: str) -> None:
            self.close_connection = True
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
            while fault == "drip" and not found.stopped.wait(0.05):
                try:
                    self.wfile.write(b"H")
                except OSError:
                    return
            if fault == "hang":
                found.stopped.wait(30)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    found.stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


Send = Callable[..., tuple[int, Signal | Failure]]


@pytest.fixture
def send(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Run the command; its exit code and what it said."""
    monkeypatch.setattr(webhook, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("CREDITMODEL_EVENT", json.dumps(EVENT))

    def run(*more: str) -> tuple[int, Signal | Failure]:
        fixed = ["signal", "--url", receiver.url, "--timeout", "10", "--deadline", "30"]
        code = main([*fixed, "--measurement", str(tmp_path / "said"), *more])
        found = parse((tmp_path / "said").read_bytes())
        assert isinstance(found, Signal | Failure)
        return code, found

    return run


OK: Answer = (202, {}, "")


def test_the_event_arrives_as_a_signed_cloud_event(
    receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITMODEL_SIGNAL_KEY", "a key of the receiver\n")
    monkeypatch.setenv("CREDITMODEL_SIGNAL_TOKEN", "t0ken")
    receiver.answers = [OK]
    code, said = send()
    assert code == 0
    assert isinstance(said, Signal)
    assert (said.digest, said.episode, said.status, said.attempts) == (DIGEST, EPISODE, 202, 1)
    (post,) = receiver.posts
    assert post.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert post.headers["Authorization"] == "Bearer t0ken"
    assert json.loads(post.body) == EVENT
    stamp = post.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    signed = f"{EPISODE}.{stamp}.".encode() + post.body
    right = base64.b64encode(hmac.new(b"a key of the receiver", signed, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-id"] == EPISODE
    assert post.headers["webhook-signature"] == f"v1,{right}"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    key, stamp = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330
    body = b'{"test": 2432232314}'
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", stamp, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "fault", [(500, {}, "no"), (503, {}, ""), (429, {}, ""), (408, {}, ""), "drop", "hang", "drip"]
)
def test_what_may_pass_is_tried_again_with_the_same_id(receiver: Receiver, send: Send, fault: Answer) -> None:
    receiver.answers = [fault, fault, OK] if isinstance(fault, tuple) else [fault, OK]
    code, said = send() if isinstance(fault, tuple) else send("--timeout", "2")
    assert code == 0
    assert isinstance(said, Signal)
    assert said.attempts == len(receiver.posts) == (3 if isinstance(fault, tuple) else 2)
    assert {json.loads(post.body)["id"] for post in receiver.posts} == {EPISODE}


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 409, 410, 413, 422])
def test_what_the_receiver_refuses_is_not_sent_again(receiver: Receiver, send: Send, status: int) -> None:
    receiver.answers = [(status, {"Location": receiver.url + "/elsewhere"}, "not for me")]
    code, said = send()
    assert code == 2
    assert isinstance(said, Failure)
    assert (said.kind, said.digest, said.error.reason) == ("signal", DIGEST, "Rejected")
    assert f"HTTP {status}" in said.error.message
    assert "not for me" in said.error.message
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept_to(receiver: Receiver, send: Send, form: str) -> None:
    later = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    receiver.answers = [(429, {"Retry-After": later}, ""), OK]
    assert send()[0] == 0
    assert receiver.posts[1].at - receiver.posts[0].at > 0.8


def test_it_gives_up_at_the_deadline_and_says_what_the_last_answer_was(receiver: Receiver, send: Send) -> None:
    receiver.answers = [(503, {}, "busy")]
    begun = time.monotonic()
    code, said = send("--deadline", "0.5")
    assert code == 2
    assert isinstance(said, Failure)
    assert said.error.reason == "Undeliverable"
    assert "HTTP 503: busy; given up after" in said.error.message
    assert time.monotonic() - begun < 20
    assert 1 <= len(receiver.posts) < 30


def test_a_pause_longer_than_what_is_left_is_not_waited_for(receiver: Receiver, send: Send) -> None:
    receiver.answers = [(429, {"Retry-After": "3600"}, "")]
    code, said = send()
    assert code == 2
    assert isinstance(said, Failure)
    assert "given up after 1 attempts" in said.error.message


def test_nobody_there_is_tried_again(receiver: Receiver, send: Send) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        code, said = send("--url", url, "--deadline", "0.3")
    assert code == 2
    assert isinstance(said, Failure)
    assert said.error.reason == "Undeliverable"
    assert receiver.posts == []


AIRFLOW = ("--format", "Airflow", "--dag-id", "creditmodel_retrain")


@pytest.mark.parametrize("status", [200, 409])
def test_airflow_gets_a_run_with_the_episodes_id_and_one_that_is_there_is_success(
    receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("CREDITMODEL_SIGNAL_USERNAME", "creditmodel")
    monkeypatch.setenv("CREDITMODEL_SIGNAL_PASSWORD", "secret")
    receiver.url = receiver.url.removesuffix("/hook")
    receiver.answers = [(201, {}, '{"access_token": "jwt"}'), (status, {}, "{}")]
    code, said = send(*AIRFLOW)
    assert code == 0
    assert isinstance(said, Signal)
    assert said.status == status
    asked, run = receiver.posts
    assert (asked.path, json.loads(asked.body)) == (
        "/auth/token",
        {"username": "creditmodel", "password": "secret"},
    )
    assert run.path == "/api/v2/dags/creditmodel_retrain/dagRuns"
    assert run.headers["Authorization"] == "Bearer jwt"
    document = json.loads(run.body)
    assert (document["dag_run_id"], document["logical_date"]) == (EPISODE, None)
    assert document["conf"] == {"namespace": "credit", "name": "default", "episode": EPISODE, "event": EVENT}


def test_a_wrong_password_is_final(receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITMODEL_SIGNAL_USERNAME", "creditmodel")
    receiver.answers = [(401, {}, "Invalid credentials")]
    code, said = send(*AIRFLOW)
    assert code == 2
    assert isinstance(said, Failure)
    assert "Invalid credentials" in said.error.message


@pytest.mark.parametrize(
    "event", ["", "nonsense", "[]", "{}", json.dumps(EVENT | {"data": {}}), json.dumps(EVENT | {"id": ""})]
)
def test_an_event_that_is_none_is_refused_before_anything_is_sent(
    receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    monkeypatch.setenv("CREDITMODEL_EVENT", event)
    code, said = send()
    assert code == 2
    assert isinstance(said, Failure)
    assert said.error.reason == "Invalid"
    assert receiver.posts == []


def test_a_key_that_is_no_key_is_named_without_being_shown(
    receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITMODEL_SIGNAL_KEY", "whsec_not base64!")
    code, said = send()
    assert code == 2
    assert isinstance(said, Failure)
    assert "not base64" in said.error.message.replace("and is not base64", "not base64")
    assert "not base64!" not in said.error.message


def test_a_dag_and_its_format_come_together(send: Send, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["signal", "--url", "http://127.0.0.1/", "--dag-id", "retrain"])
    assert caught.value.code == 2
    assert "give it with --format Airflow" in capsys.readouterr().err
