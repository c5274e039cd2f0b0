"""The pods of deploy/kubernetes as Docker containers: users, file systems, limits, names and ports of the manifests.

Not a Kubernetes: one replica of each Deployment, volumes of the kinds that are there, node ports on 127.0.0.1 only.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_UNITS = {"Mi": "m", "Gi": "g"}


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
        kustomization = yaml.safe_load((self.folder / "kustomization.yaml").read_text())
        self.images = {each["name"]: f"{each['newName']}:{each['newTag']}" for each in kustomization["images"]}
        self.manifests: list[Manifest] = [
            manifest
            for name in kustomization["resources"]
            for manifest in yaml.safe_load_all((self.folder / name).read_text())
        ]

    def apply(self) -> None:
        """Start every Deployment, one after the other."""
        _docker("network", "create", f"{self.prefix}network")
        for name in self.of_kind("Deployment"):
            _docker("run", "--detach", "--name", self.prefix + name, *self._options(name))

    def delete(self) -> None:
        """Remove everything."""
        for kind, names in (
            ("container", [self.prefix + name for name in self.of_kind("Deployment")]),
            ("network", [f"{self.prefix}network"]),
            ("volume", [self.prefix + name for name in self.of_kind("PersistentVolumeClaim")]),
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
        assert (self._probe(name, box["readinessProbe"]), self._probe(name, box["livenessProbe"])) == (200, 200)

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

    def _pod(self, deployment: str) -> Manifest:
        spec: Manifest = self.of_kind("Deployment")[deployment]["spec"]["template"]["spec"]
        return spec

    def _container(self, deployment: str) -> Manifest:
        (box,) = self._pod(deployment)["containers"]
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
        options += ["--network", f"{self.prefix}network", "--network-alias", name]
        if box["securityContext"]["readOnlyRootFilesystem"]:
            options += ["--read-only"]
        if not box["securityContext"]["allowPrivilegeEscalation"]:
            options += ["--security-opt", "no-new-privileges"]
        options += [word for each in box["securityContext"]["capabilities"]["drop"] for word in ("--cap-drop", each)]
        volumes = {each["name"]: each for each in pod["volumes"]}
        for mount in box["volumeMounts"]:
            options += self._mount(volumes[mount["name"]], mount, user["fsGroup"])
        for port in self.of_kind("Service")[name]["spec"]["ports"]:
            options += ["--publish", f"127.0.0.1:{port['nodePort']}:{port['port']}"]
        # Probes come from the node; here they come in by a port that the engine chooses.
        (http_port,) = [each["containerPort"] for each in box["ports"] if each["name"] == "http"]
        options += ["--publish", f"127.0.0.1::{http_port}"]
        return [*options, self.images[box["image"]], *box["args"]]

    def _mount(self, volume: Manifest, mount: Manifest, group: int) -> list[str]:
        place = mount["mountPath"]
        if "emptyDir" in volume:
            return ["--tmpfs", f"{place}:mode=1777"]
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert claim in self.of_kind("PersistentVolumeClaim")
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
