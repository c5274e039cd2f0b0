"""The device: runs a network's segments one by one, obeys the plan it holds, streams tensors to an edge.

``pipeline`` and its parts (``task``, ``task_queue``, ``task_in_service``, ``decisions``, ``offloads``, ``failover``,
``outcomes``, ``plan_keeping``, ``breaker``, ``reporting``, ``tracking``, the books of ``energy``) are sans-IO: they
take events and a clock reading and return instructions. The rest is the shell around them.
"""
