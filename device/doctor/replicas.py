"""Several replicas of the twin: is the device attached to one of them, and do all of them know the same edges?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from device.doctor.finding import Check, Finding, bad, ok
from twinsplit.replicas.rendezvous import ranked
from twinsplit.rpc.v1 import twin_pb2


def replica_findings(
    device_id: str, replicas: tuple[str, ...], answers: Mapping[str, twin_pb2.DescribeServiceResponse]
) -> Iterator[Finding]:
    """Where ``device_id`` belongs and is, and which edges miss a replica.

    Args:
        device_id: the device.
        replicas: all that the list names.
        answers: what those that answer say of themselves.
    """
    preferred = ranked(device_id, replicas)[0]
    holders = [address for address, answer in answers.items() if answer.is_device_attached]
    text = f"{len(answers)} of {len(replicas)} replicas answer; {device_id} prefers {preferred}"
    if len(holders) > 1:
        yield bad(
            Check.TWIN_REPLICAS,
            f"{text}, and {' and '.join(holders)} each hold it to be attached",
            "look again in a minute, when a replica that it left has noticed; if it stays, two devices have this --id",
        )
    else:
        yield ok(Check.TWIN_REPLICAS, f"{text} and is attached to {holders[0] if holders else 'none'}")
    known = {edge.edge_id for answer in answers.values() for edge in answer.edges}
    for edge_id in sorted(known):
        missing = [a for a, answer in answers.items() if edge_id not in {edge.edge_id for edge in answer.edges}]
        if missing:
            yield bad(
                Check.TWIN_REPLICAS,
                f"{edge_id} is not attached to {', '.join(missing)}, whose plans leave it out",
                f"give {edge_id} the same list in --twin as the devices",
            )
