"""The HTTP service: batches, images, questions, and refusals that say what was expected."""

import io
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from edge_server.api import create_app, guarded
from edge_server.server import EdgeServer
from edge_server.settings import Settings
from wire import batch
from wire.batch import AnswerItem, Verdict
from wire.latent import LinkReport

BATCH = {"content-type": batch.CONTENT_TYPE}
RAW = {"content-type": "application/octet-stream"}


@pytest.fixture
def client(bundle, sender, enrol):
    settings = Settings(bundles=(str(bundle.path),), registry=enrol(sender))
    with TestClient(create_app(EdgeServer(settings))) as client:
        yield client


def ingest(client: TestClient, *items) -> list[AnswerItem]:
    response = client.post("/v1/ingest", content=batch.emit_request(items), headers=BATCH)
    assert response.status_code == 200
    assert response.headers["content-type"] == batch.CONTENT_TYPE
    return batch.parse_response(response.content)


def test_a_batch_is_answered_and_told_about(client, sender, labels) -> None:
    results = ingest(client, *(sender.item(c, image=c, width=c % 2) for c in range(1, 6)))
    assert [sender.open(r.counter, r.sealed).cls for r in results] == labels[1:6].tolist()
    [again] = ingest(client, sender.item(3, image=3, report=LinkReport()))
    assert (again.verdict, again.sealed) == (Verdict.ALREADY, results[2].sealed)
    status = client.get("/v1/status").json()
    assert status["verdicts"] == {"answered": 5, "already": 1}
    assert (status["enrolled"], status["devices"], status["bundles"]) == (1, 1, ["tiny"])
    [device] = client.get("/v1/devices").json()["devices"]
    assert (device["eui64"], device["counter"], device["answered"]) == (sender.eui.hex(), 5, 5)
    assert device["next_width"] == 1.0
    metrics = client.get("/metrics").text
    assert 'slimwire_edge_items_total{verdict="answered"} 5.0' in metrics
    assert "slimwire_edge_batch_items_count 2.0" in metrics


def test_who_shows_no_token_gets_nothing_and_is_counted(bundle, sender, enrol, tmp_path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("the-token-of-one-gateway\nthe-token-of-the-other\n")
    tokens.chmod(0o600)
    server = EdgeServer(Settings(bundles=(str(bundle.path),), registry=enrol(sender), token_file=tokens))
    app = guarded(server, create_app(server))
    body = batch.emit_request([])
    with TestClient(app) as client:

        def code(shown: str | bytes | None, path: str = "/v1/ingest") -> int:
            headers = {**BATCH, **({} if shown is None else {"Authorization": shown})}
            return client.post(path, content=body, headers=headers).status_code

        for shown in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer the-token-of-one-gatewax",
            "Basic eDp5",
            b"Bearer \xe9",
        ):
            assert code(shown) == 401
        assert code("Bearer the-token-of-one-gateway") == code("bearer the-token-of-the-other") == 200
        for path in (
            "/v1/status",
            "/v1/devices",
            "/metrics",
            "/v1/classify",
            "/nothing",
            "/docs",
            "/openapi.json",
        ):
            assert client.get(path).status_code == 401
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        refused = client.get("/v1/status")
        assert refused.json()["error"]["reason"] == "unauthorized"
        assert refused.headers["www-authenticate"] == "Bearer"
        shown = {"Authorization": "Bearer the-token-of-the-other"}
        assert (
            'slimwire_edge_refused_total{reason="unauthorized"} 15.0'
            in client.get("/metrics", headers=shown).text
        )
        tokens.write_text("the-newest-token-of-all\n")
        app.renew()
        assert code("Bearer the-token-of-one-gateway") == 401
        assert code("Bearer the-newest-token-of-all") == 200
        tokens.write_text("")
        app.renew()  # what cannot be used is not used
        assert code("Bearer the-newest-token-of-all") == 200


def test_an_empty_batch_is_a_batch(client) -> None:
    assert ingest(client) == []


def test_explain_says_why(client, sender) -> None:
    ingest(client, sender.item(1))
    ingest(client, sender.item(2, report=LinkReport(duration_ms=60)))
    choices = client.get(f"/v1/explain/{sender.eui.hex(':')}").json()["choices"]
    assert len(choices) == 2
    assert choices[0]["samples"] == 1
    assert "P(on time)" in choices[0]["reason"]
    assert len(choices[0]["value"]) == 2
    assert client.get("/v1/explain/0200000000000077").status_code == 404
    assert client.get("/v1/explain/02").status_code == 422


@pytest.mark.parametrize(
    ("body", "headers", "code", "reason"),
    [
        (b"SWB1\0\2", BATCH, 400, "truncated"),
        (b"SWA1\0\0", BATCH, 400, "bad-magic"),
        (b"SWB1\0\0x", BATCH, 400, "trailing-bytes"),
        (b"SWB1\xff\xff", BATCH, 400, "too-many"),
        (b"", BATCH, 400, "truncated"),
        (b"SWB1\0\0", RAW, 415, "content-type"),
        (bytes(batch.MAX_BODY + 1), BATCH, 413, "body-too-large"),
    ],
)
def test_a_malformed_batch_is_refused_with_a_reason_and_counted(client, body, headers, code, reason) -> None:
    response = client.post("/v1/ingest", content=body, headers=headers)
    assert response.status_code == code
    error = response.json()["error"]
    assert error["reason"] == reason
    assert error["what"]
    assert error["expected"]
    assert f'slimwire_edge_refused_total{{reason="{reason}"}} 1.0' in client.get("/metrics").text


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_one_image_is_the_same_in_every_form(client, bundle, labels) -> None:
    image = bundle.camera()[0][7]
    rows = image[:, :, 0].tolist()
    as_json = {"content-type": "application/json; charset=utf-8"}
    answers = [
        client.post("/v1/classify", content=content, headers=headers)
        for content, headers in (
            (image.tobytes(), RAW),
            (npy(image), RAW),
            (npy(image[None].astype(np.int64)), RAW),
            (json.dumps(rows), as_json),
            (json.dumps(image.tolist()), as_json),
            (json.dumps({"image": rows}), as_json),
        )
    ]
    assert {a.status_code for a in answers} == {200}
    assert len({a.text for a in answers}) == 1
    answer = answers[0].json()
    assert (answer["class"], answer["label"]) == (labels[7], bundle.classes[labels[7]])
    assert answer["width"] == 1.0
    assert answer["probabilities"][answer["label"]] == answer["confidence"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    narrow = client.post("/v1/classify?width=0.5&bundle=tiny", content=image.tobytes(), headers=RAW).json()
    assert narrow["width"] == 0.5
    assert narrow["bytes"] < answer["bytes"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\0" * 63, "application/octet-stream"),
        (npy(np.zeros((9, 8), np.uint8)), "application/octet-stream"),
        (npy(np.zeros((8, 8), np.float32)), "application/octet-stream"),
        (npy(np.full((8, 8), 256)), "application/octet-stream"),
        (b"\x93NUMPY nothing", "application/octet-stream"),
        (
            npy(np.zeros((8, 8), np.uint8)).replace(b"(8, 8), }      ", b"(999999999999,"),
            "application/octet-stream",
        ),
        (
            npy(np.zeros((8, 8), np.uint8)).replace(b"(8, 8), }     ", b"(9999999999,)}"),
            "application/octet-stream",
        ),
        (npy(np.zeros((8, 8), np.uint8)).replace(b"(8, 8), }", b"((((((8,8"), "application/octet-stream"),
        (npy(np.zeros((8, 8), np.uint8)).replace(b"(8, 8)", b"([], 8"), "application/octet-stream"),
        (b"[[0, 1], [2]]", "application/json"),
        (b"[0.5]", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'"text"', "application/json"),
        (b'{"pixels": []}', "application/json"),
        (b"[]", "application/json"),
        (json.dumps([["a"] * 8] * 8).encode(), "application/json"),
        (json.dumps([[10**30] * 8] * 8).encode(), "application/json"),
        (json.dumps([[-1] * 8] * 8).encode(), "application/json"),
        (b"\0" * 64, "image/png"),
        (b"\0" * 64, ""),
    ],
)
def test_a_wrong_image_is_refused_with_what_was_expected(client, body, content_type) -> None:
    response = client.post("/v1/classify", content=body, headers={"content-type": content_type})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["reason"] == "bad-image"
    assert "8 x 8 pixels" in error["expected"]


def test_a_width_or_a_bundle_that_is_not_there_is_refused(client) -> None:
    response = client.post("/v1/classify?width=0.3", content=bytes(64), headers=RAW)
    assert response.status_code == 422
    assert response.json()["error"]["expected"] == "one of 0.5, 1"
    response = client.post("/v1/classify?bundle=other", content=bytes(64), headers=RAW)
    assert response.status_code == 404
    assert response.json()["error"]["expected"] == "one of tiny"


def test_health_and_models(client, bundle) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"
    [model] = client.get("/v1/models").json()["models"]
    assert model["model_tag"] == f"{bundle.headfile.model_tag:04x}"
    assert [w["width"] for w in model["widths"]] == [0.5, 1.0]
    assert client.get("/nowhere").json()["error"]["what"] == "Not Found"


async def test_more_batches_than_may_wait_are_told_to_try_again(bundle, sender, enrol) -> None:
    import asyncio

    settings = Settings(bundles=(str(bundle.path),), registry=enrol(sender), waiting_batches=2)
    server = EdgeServer(settings)
    try:
        answers = await asyncio.gather(*(server.answer([sender.item(c)]) for c in range(1, 5)))
    finally:
        server.close()
    assert [a[0].verdict for a in answers] == [
        Verdict.ANSWERED,
        Verdict.ANSWERED,
        Verdict.BUSY,
        Verdict.BUSY,
    ]


def test_two_bundles_answer_their_own_devices(tmp_path, write_bundle, bundle, sender, enrol, labels) -> None:
    from models.bundle import Bundle

    other = Bundle.load(write_bundle(tmp_path / "other", name="other", seed=5))
    second = sender._replace(bundle=other, eui=bytes.fromhex("0200000000000002"))
    settings = Settings(bundles=(str(bundle.path), str(other.path)), registry=enrol(sender, second))
    with TestClient(create_app(EdgeServer(settings))) as client:
        results = ingest(client, sender.item(1, image=1), second.item(1, image=2), sender.item(2, image=3))
        assert [r.verdict for r in results] == [Verdict.ANSWERED] * 3
        assert second.open(1, results[1].sealed).cls == labels[2]
