"""The files in deploy/, each held against the tool that will read it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from compose_spec import PyCompose
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import FHIR_JSON, OPERATION, free_port, serving
from tests.tools import require

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "maa-assess"
STORY = ROOT / "fixtures" / "three-patients"
SECONDS = 30
HOST = "maa.example.org"
EVERYTHING = """
settings: {MAA_FHIR_SERVER: https://fhir.example.org/r4, MAA_WINDOW_DAYS: 30}
secretFiles: {MAA_FHIR_TOKEN_FILE: {secret: maa-fhir, key: token}}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
autoscaling: {enabled: false}
imagePullSecrets: [{name: registry}]
networkPolicy: {egress: [{to: [{ipBlock: {cidr: 192.0.2.1/32}}], ports: [{port: 443}]}]}
"""

Json = dict[str, Any]


def run(*command: str | Path, **environment: str) -> str:
    """What a tool says; it must not fail."""
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Compose


def compose() -> Json:
    found: Json = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_the_compose_file_is_one() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    found = PyCompose.from_yaml(text)
    found.validate()
    assert set(found.service_names()) == {"maa-assess", "hapi", "prometheus", "grafana"}
    with pytest.raises(ValueError, match="read_onli"):
        PyCompose.from_yaml(text.replace("read_only", "read_onli"))


def test_the_files_that_compose_mounts_are_there() -> None:
    for name, service in compose()["services"].items():
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), f"{name} is open to others."
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source


# Kubernetes


def rendered(folder: Path, values: str = "{}") -> dict[str, Json]:
    """What the chart makes of the values, by kind; valid as Kubernetes has it."""
    require("helm")
    file, made = folder / "values.yaml", folder / "made.yaml"
    file.write_text(values)
    made.write_text(run("helm", "template", "ours", CHART, "--values", file))
    run(Path(sys.executable).with_name("kubernetes-validate"), "--strict", made)
    return {one["kind"]: one for one in yaml.safe_load_all(made.read_text())}


def test_the_chart_is_clean() -> None:
    require("helm")
    run("helm", "lint", "--strict", CHART)


def test_the_chart_starts_the_service_confined_and_watched(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    assert set(made) == {
        *("Deployment", "Service", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy"),
    }
    pod = made["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")]
    assert probes == ["/health/live", "/health/ready"]
    assert container["resources"]["limits"]["memory"] == "256Mi"
    # Else a name of the cluster's would hide a setting, and a drain would be cut short.
    assert pod["enableServiceLinks"] is False
    assert pod["terminationGracePeriodSeconds"] > 20 + int(
        container["lifecycle"]["preStop"]["exec"]["command"][1]
    )
    assert "replicas" not in made["Deployment"]["spec"], "The autoscaler says how many."


def test_the_chart_takes_secrets_that_exist_as_files(tmp_path: Path) -> None:
    made = rendered(tmp_path, EVERYTHING)
    pod = made["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["MAA_WINDOW_DAYS"] == "30"
    (mount,) = container["volumeMounts"]
    assert variables["MAA_FHIR_TOKEN_FILE"] == mount["mountPath"]
    (volume,) = pod["volumes"]
    assert volume["secret"]["secretName"] == "maa-fhir"
    assert made["Deployment"]["spec"]["replicas"] == 2
    assert made["ServiceMonitor"]["spec"]["endpoints"][0]["path"] == "/metrics"
    assert "HorizontalPodAutoscaler" not in made
    assert {"port": 443} in made["NetworkPolicy"]["spec"]["egress"][1]["ports"]


# systemd


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    require("systemd-analyze")
    unit = (DEPLOY / "maa-assess.service").read_text()
    program = Path(sys.executable).with_name("maa-assess")
    copy = tmp_path / "maa-assess.service"
    copy.write_text(unit.replace("/opt/maa-assess/bin/maa-assess", str(program)))
    assert run("systemd-analyze", "verify", "--man=no", copy) == ""
    run("systemd-analyze", "security", "--offline=true", "--threshold=15", copy)


# Prometheus and Grafana


def test_the_alerts_are_raised_when_they_should_be() -> None:
    require("promtool")
    run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    run("promtool", "test", "rules", DEPLOY / "prometheus" / "alerts.test.yml")


def test_every_alert_is_explained_to_an_operator() -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    named = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    told = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.M)
    assert {name for name in told if name.startswith("Maa")} == named


def queries() -> Iterator[str]:
    """Every query of the alerts and of the dashboard."""
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    yield dashboard["templating"]["list"][0]["query"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_metric_and_label_that_is_asked_for_exists(http: httpx.Client) -> None:
    doubted = (ROOT / "fixtures" / "anc-as-text" / "request.json").read_bytes()
    assert http.post(OPERATION, content=doubted, headers=TYPE).is_success
    text = http.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    asked = {name for query in queries() for name in re.findall(r"\b(?:maa|process)_\w+", query)}
    assert len(asked) > 5
    for name in asked:
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        assert {name, family} & families, name
    labels = {"instance", "job", *re.findall(r'[{,](\w+)="', text), "outcome"}
    for query in queries():
        used = {*re.findall(r'(\w+)=~?"', query), *re.findall(r'(\w+)!~"', query)}
        grouped = ",".join(re.findall(r"by \(([^)]*)\)", query)).replace(" ", "").split(",")
        assert used | {one for one in grouped if one} <= labels, query


def test_the_dashboards_queries_are_prometheus_queries(tmp_path: Path) -> None:
    require("promtool")
    rules = [
        {"record": f"dashboard:{number}", "expr": query.replace("$instance", ".*")}
        for number, query in enumerate(queries())
        if "label_values" not in query
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run("promtool", "check", "rules", file)


# A gateway in front, with TLS and a prefix

TYPE = {"content-type": FHIR_JSON}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the host of the examples, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def nginx(folder: Path, port: int, service: int) -> list[str]:
    """The command that runs the example; only ports and files are others."""
    cert, key = certificate(folder)
    site = (
        (DEPLOY / "nginx.conf")
        .read_text()
        .replace("127.0.0.1:8000", f"127.0.0.1:{service}")
        .replace("listen 443", f"listen 127.0.0.1:{port}")
        .replace("/etc/ssl/maa.example.org.pem", str(cert))
        .replace("/etc/ssl/maa.example.org.key", str(key))
    )
    (folder / "site.conf").write_text(site)
    own = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy"))
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid;\n"
        f"error_log stderr; events {{}}\n"
        f"http {{ access_log off; {own} include {folder}/site.conf; }}\n"
    )
    return ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, service: int) -> list[str]:
    cert, key = certificate(folder)
    site = (
        (DEPLOY / "Caddyfile")
        .read_text()
        .replace("127.0.0.1:8000", f"127.0.0.1:{service}")
        .replace(f"{HOST} {{", f"{HOST}:{port} {{\n\tbind 127.0.0.1\n\ttls {cert} {key}")
        .replace("{\n\tservers", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers", 1)
    )
    (folder / "Caddyfile").write_text(site)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def in_front(kind: str, folder: Path) -> Iterator[tuple[httpx.Client, int]]:
    """A client of the gateway, which speaks to the real service; the gateway's port."""
    require(kind)
    service, port = free_port(), free_port()
    command = {"nginx": nginx, "caddy": caddy}[kind](folder, port, service)
    trust = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    with (
        serving(folder / "service.log", service, MAA_PUBLIC_URL=f"https://{HOST}:{port}/maa"),
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)}
        ) as gateway,
    ):
        try:
            give_up = time.monotonic() + SECONDS
            while not listens(port):
                assert gateway.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up
                time.sleep(0.05)
            with httpx.Client(
                base_url=f"https://127.0.0.1:{port}/maa",
                headers={"host": f"{HOST}:{port}"},
                verify=trust,
                timeout=SECONDS,
            ) as client:
                yield client, port
        finally:
            gateway.terminate()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, int]]:
    folder = tmp_path_factory.mktemp("gateway")
    with in_front(request.param, folder) as found:
        yield found


def send(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Asked by the name that the certificate is for."""
    return client.request(method, path, extensions={"sni_hostname": HOST}, **arguments)


def test_the_answer_comes_through_tls_and_below_the_prefix(
    gateway: tuple[httpx.Client, int],
) -> None:
    client, port = gateway
    body = (STORY / "request.json").read_bytes()
    answer = send(client, "POST", OPERATION, content=body, headers=TYPE)
    assert answer.json() == json.loads((STORY / "response.json").read_text())
    assert "max-age" in answer.headers["strict-transport-security"]
    metadata = send(client, "GET", "/fhir/metadata").json()
    assert metadata["implementation"]["url"] == f"https://{HOST}:{port}/maa/fhir"
    page = send(client, "GET", "/docs").text
    for address in re.findall(r"""(?:href|src|url)[=:]\s*["'](/[^"']+)""", page):
        assert address.startswith("/maa/"), address
        found = send(client, "GET", address.removeprefix("/maa"))
        assert found.status_code == 200, address


def test_the_gateway_keeps_large_bodies_and_the_metrics_to_itself(
    gateway: tuple[httpx.Client, int],
) -> None:
    client, _ = gateway
    large = send(client, "POST", OPERATION, content=b" " * (17 << 20), headers=TYPE)
    assert large.status_code in {413, 502}, "Debian's Caddy says 502 of what it refuses."
    assert send(client, "GET", "/metrics").status_code == 404


def test_the_image_has_what_the_service_depends_on() -> None:
    """A dependency that is in one lock alone starts here and not there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["redis"]
    names = {re.split(r"[\[<>=~; ]", one)[0].lower().replace("_", "-") for one in wanted}
    lock = (ROOT / "requirements-service.lock").read_text("utf-8")
    held = {line.partition("==")[0] for line in lock.splitlines() if "==" in line}
    assert {name.replace(".", "-") for name in names} <= {name.replace(".", "-") for name in held}
