"""From measured documents to the result that page and people get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.capacity.inputs import NEEDED, inputs_of
from benchmarks.capacity.needs import FLEETS, Assumptions, foretold_documents, held, limits, needs


def calculated(documents: Mapping[str, Mapping[str, Any]], assumed: Assumptions) -> dict[str, Any]:
    """``origins``, ``inputs``, ``assumed``, ``limits``, ``fleets``, ``held``, and the simulated fleets that
    much of it was measured in: ``simulation``, ``settled``.

    Raises:
        InputError: a document lacks what is needed of it.
    """
    inputs = inputs_of(documents)
    simulation = documents["capacity-simulation"]["results"]
    return {
        "origins": {name: _origin(documents[name]["provenance"]) for name in NEEDED},
        "inputs": inputs.described(),
        "assumed": asdict(assumed),
        "limits": [asdict(limit) for limit in limits(inputs, assumed)],
        "fleets": [needs(inputs, assumed, devices).described() for devices in FLEETS],
        "held": held(inputs, assumed, inputs.many_edges),
        "foretold_documents": foretold_documents(assumed, simulation),
        "simulation": simulation,
        "settled": _settled(documents["capacity-settled"]["results"]),
    }


def _settled(run: Mapping[str, Any]) -> dict[str, Any]:
    """Devices, edges, and tasks of a device before and while rates and times were counted."""
    devices, counted = run["devices"], run["settled"]["tasks"]
    return {
        "devices": devices,
        "edges": run["edges"],
        "tasks_before": (run["tasks"] - counted) / devices,
        "tasks_counted": counted / devices,
    }


def _origin(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "written_at": about["written_at"],
        "commit": about["commit"],
        "load_average": about["machine"]["load_average"],
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """For people."""
    out = [
        f"{limit['unit']:<5} {limit['resource']:<24} {limit['devices']:>14,.0f} devices" for limit in found["limits"]
    ]
    out.extend(
        f"{fleet['devices']:>12,} devices: {fleet['cells']:,} cells, {fleet['twins']:,} twins "
        f"({fleet['twin_cores']:,.1f} cores), {fleet['edges']:,} edges ({fleet['edge_cores']:,.1f} cores), "
        f"{fleet['documents_per_s']:,.0f} documents/s, {8e-6 * fleet['payload_bytes_per_s']:,.0f} Mbit/s of payloads"
        for fleet in found["fleets"]
    )
    pair = found["held"]
    out.append(
        f"calculated, with {pair['edges']} edges: one twin holds {pair['devices_of_one']:,.0f} devices "
        f"({pair['tasks_per_s_of_one']:,.0f} tasks/s), two replicas {pair['devices_of_two']:,.0f} "
        f"({pair['tasks_per_s_of_two']:,.0f} tasks/s)"
    )
    return out
