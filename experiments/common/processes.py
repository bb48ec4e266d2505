"""Several processes of one command, on one machine or many; light to import.

Each is started with the same options and with the variables below, as JAX has them.
"""

import os
from collections.abc import Mapping

ADDRESS = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
INDEX = "JAX_PROCESS_ID"
VARIABLES = (ADDRESS, COUNT, INDEX)


def join_processes(variables: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes where the variables name them; does nothing where none is set.

    Has to be called before JAX looks for devices.

    Args:
      variables: ``JAX_COORDINATOR_ADDRESS``, host:port of the first process;
        ``JAX_NUM_PROCESSES``; ``JAX_PROCESS_ID``, this one's number from 0.

    Raises:
      ValueError: some are set and others are not, or they say nothing that makes sense.
    """
    given = {name: variables[name] for name in VARIABLES if variables.get(name)}
    if not given:
        return
    address, count, index = _checked(given)
    import jax

    if not jax.distributed.is_initialized():
        # It would take SIGTERM for itself, which is to end a command as Ctrl-C does.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(address, count, index, cluster_detection_method="deactivate")


def named(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether the variables name several processes."""
    count = variables.get(COUNT, "")
    return count.isdecimal() and int(count) > 1


def first_named(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether the variables say that this is the first process."""
    return variables.get(INDEX) == "0"


def _checked(given: Mapping[str, str]) -> tuple[str, int, int]:
    if missing := [name for name in VARIABLES if name not in given]:
        raise ValueError(
            f"{' and '.join(given)} is set, {' and '.join(missing)} is not: set all three for "
            "several processes, or none for one"
        )
    host, _, port = given[ADDRESS].rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"{ADDRESS} must be host:port of the first process, got {given[ADDRESS]!r}"
        )
    for name in (COUNT, INDEX):
        if not given[name].isdecimal():
            raise ValueError(f"{name} must be a number, got {given[name]!r}")
    count, index = int(given[COUNT]), int(given[INDEX])
    if index >= count:
        raise ValueError(
            f"{INDEX} is {index} of {COUNT} {count}: the processes are numbered from 0 to "
            f"{count - 1}"
        )
    return given[ADDRESS], count, index
