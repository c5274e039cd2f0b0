"""The pods of deploy/kubernetes as Docker containers: users, file systems, limits, names and ports of the manifests.

Not a Kubernetes: the replicas of each StatefulSet, volumes of the kinds that are there, node ports on 127.0.0.1 only.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kustomizations import Manifest, rendered

NAMESPACE = "twinsplit"
_FAILURES = 3
"""After so many in a row a kubelet acts, where nothing else is said."""
_UNITS = {"Mi": "m", "Gi": "g"}
_REFERENCE = re.compile(r"\$\((\w+)\)")


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@dataclass
class Cluster:
    """Manifests that are applied, and the containers that follow from them."""

    folder: Path
    """Of the kustomization."""
    secrets: dict[str, Path]
    """Folder of files by the name of the Secret made from it."""
    scratch: Path
    prefix: str
    """Of the names of everything that is made here."""

    def __post_init__(self) -> None:
        self.manifests = rendered(self.folder)

    @property
    def pods(self) -> list[str]:
        """Names of all pods, in order."""
        return [
            f"{name}-{ordinal}"
            for name, each in self.of_kind("StatefulSet").items()
            for ordinal in range(each["spec"]["replicas"])
        ]

    def apply(self) -> None:
        """Start every pod, one after the other."""
        _docker("network", "create", f"{self.prefix}network")
        for name in self.pods:
            _docker("run", "--detach", "--name", self.prefix + name, *self._options(name))

    def delete(self) -> None:
        """Remove everything."""
        for kind, names in (
            ("container", [self.prefix + name for name in self.pods]),
            ("network", [f"{self.prefix}network"]),
            ("volume", [self.prefix + name for pod in self.pods for name in self._claims(pod).values()]),
        ):
            force = ["--force"] if kind != "network" else []
            subprocess.run(["docker", kind, "rm", *force, *names], capture_output=True, check=False)

    def of_kind(self, kind: str) -> dict[str, Manifest]:
        """Manifests by name."""
        return {each["metadata"]["name"]: each for each in self.manifests if each["kind"] == kind}

    def await_start(self, name: str) -> None:
        """Ask the startup probe as often as it says; then the other two once."""
        box = self._container(name)
        startup = box["startupProbe"]
        for _ in range(startup["failureThreshold"]):
            if self._probe(name, startup) == 200:
                break
            time.sleep(startup["periodSeconds"])
        else:
            raise AssertionError(f"{name} does not start:\n{self.log(name)}")
        for probe in (box["readinessProbe"], box["livenessProbe"]):
            answers = []
            while 200 not in answers:
                assert len(answers) < probe.get("failureThreshold", _FAILURES), f"{name}: {answers}"
                answers.append(self._probe(name, probe))

    def restart(self, name: str) -> None:
        """Stop as a kubelet does, within the grace period, and start again."""
        grace_s = self._pod(name)["terminationGracePeriodSeconds"]
        _docker("stop", "--time", str(grace_s), self.prefix + name)
        code = _docker("inspect", "--format", "{{.State.ExitCode}}", self.prefix + name)
        assert code == "0", f"{name} did not stop by itself within {grace_s} s: {code}"
        _docker("start", self.prefix + name)

    def log(self, name: str) -> str:
        done = subprocess.run(["docker", "logs", self.prefix + name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def _set(self, pod: str) -> Manifest:
        """Spec of the StatefulSet that a pod is of."""
        spec: Manifest = self.of_kind("StatefulSet")[pod.rpartition("-")[0]]["spec"]
        return spec

    def _pod(self, pod: str) -> Manifest:
        spec: Manifest = self._set(pod)["template"]["spec"]
        return spec

    def _claims(self, pod: str) -> dict[str, str]:
        """Claim of a pod by the volume's name."""
        names = [each["metadata"]["name"] for each in self._set(pod).get("volumeClaimTemplates", ())]
        return {name: f"{name}-{pod}" for name in names}

    def _container(self, pod: str) -> Manifest:
        (box,) = self._pod(pod)["containers"]
        found: Manifest = box
        return found

    def _probe(self, name: str, probe: Manifest) -> int:
        """Status of the answer; 0: none."""
        get = probe["httpGet"]
        (port,) = [each["containerPort"] for each in self._container(name)["ports"] if each["name"] == get["port"]]
        published = subprocess.run(
            ["docker", "port", self.prefix + name, str(port)], capture_output=True, text=True, check=False
        ).stdout.strip()
        if not published:
            return 0
        connection = http.client.HTTPConnection(published, timeout=probe["timeoutSeconds"])
        try:
            connection.request("GET", get["path"])
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def _options(self, name: str) -> list[str]:
        pod, box = self._pod(name), self._container(name)
        user = pod["securityContext"]
        limits = box["resources"]["limits"]
        memory = limits["memory"]
        options = ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--group-add", str(user["fsGroup"])]
        options += ["--memory", memory[:-2] + _UNITS[memory[-2:]]]
        options += ["--cpus", str(min(float(limits["cpu"]), os.cpu_count() or 1))]
        service = f"{name}.{self._set(name)['serviceName']}"
        options += ["--network", f"{self.prefix}network"]
        for alias in (service, f"{service}.{NAMESPACE}.svc.cluster.local"):
            options += ["--network-alias", alias]
        options += [word for each in self._environment(name) for word in ("--env", each)]
        if box["securityContext"]["readOnlyRootFilesystem"]:
            options += ["--read-only"]
        if not box["securityContext"]["allowPrivilegeEscalation"]:
            options += ["--security-opt", "no-new-privileges"]
        options += [word for each in box["securityContext"]["capabilities"]["drop"] for word in ("--cap-drop", each)]
        volumes = {each["name"]: each for each in pod["volumes"]}
        volumes |= {each: {"claim": claim} for each, claim in self._claims(name).items()}
        for mount in box["volumeMounts"]:
            options += self._mount(volumes[mount["name"]], mount, user["fsGroup"])
        for each in self.of_kind("Service").values():
            if each["spec"]["selector"].get("statefulset.kubernetes.io/pod-name") == name:
                for port in each["spec"]["ports"]:
                    options += ["--publish", f"127.0.0.1:{port['nodePort']}:{port['port']}"]
        # Probes come from the node; here they come in by a port that the engine chooses.
        (http_port,) = [each["containerPort"] for each in box["ports"] if each["name"] == "http"]
        options += ["--publish", f"127.0.0.1::{http_port}"]
        return [*options, box["image"], *box["args"]]

    def _environment(self, pod: str) -> list[str]:
        """NAME=VALUE, with fields of the pod and references to what stands further up."""
        fields = {"metadata.name": pod, "metadata.namespace": NAMESPACE}
        found: dict[str, str] = {}
        for each in self._container(pod).get("env", ()):
            if "value" in each:
                found[each["name"]] = _REFERENCE.sub(lambda match: found[match[1]], each["value"])
            else:
                found[each["name"]] = fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        return [f"{name}={value}" for name, value in found.items()]

    def _mount(self, volume: Manifest, mount: Manifest, group: int) -> list[str]:
        place = mount["mountPath"]
        if "emptyDir" in volume:
            return ["--tmpfs", f"{place}:mode=1777"]
        if "claim" in volume:
            claim = volume["claim"]
            _docker("volume", "create", self.prefix + claim)
            root = Path(_docker("volume", "inspect", "--format", "{{.Mountpoint}}", self.prefix + claim))
            # nocopy: as on a cluster, a fresh volume is root's but for the group that fsGroup gives it.
            os.chown(root, 0, group)
            root.chmod(0o2775)
            return ["--volume", f"{self.prefix}{claim}:{place}:nocopy"]
        if "configMap" in volume:
            files = {
                key: text.encode()
                for key, text in self.of_kind("ConfigMap")[volume["configMap"]["name"]]["data"].items()
            }
            folder = self._files(f"config-{volume['configMap']['name']}", files, 0o644, group)
        else:
            secret = volume["secret"]
            files = {path.name: path.read_bytes() for path in self.secrets[secret["secretName"]].iterdir()}
            folder = self._files(secret["secretName"], files, secret["defaultMode"], group)
        source = folder / mount["subPath"] if "subPath" in mount else folder
        return ["--volume", f"{source}:{place}:ro"]

    def _files(self, name: str, files: dict[str, bytes], mode: int, group: int) -> Path:
        folder = self.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, data in files.items():
            path = folder / key
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            os.chown(path, 0, group)
            path.chmod(mode)
        return folder
