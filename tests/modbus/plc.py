"""A PLC for the tests, with pymodbus. It does what docs/modbus.md says, and prints what it got as JSON."""

import json
import sys
import time
from random import Random

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

COMMAND, ACKNOWLEDGE, NEXT = 50, 51, 40


def double(registers: list[int], at: int) -> int:
    """A 32-bit number, put together by pymodbus."""
    pair = registers[at : at + 2]
    return int(
        ModbusTcpClient.convert_from_registers(pair, ModbusTcpClient.DATATYPE.UINT32, word_order="big")
    )


def connected(port: int, source: str = "127.0.0.1") -> ModbusTcpClient:
    return ModbusTcpClient("127.0.0.1", port=port, source_address=(source, 0), timeout=10, retries=0)


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def read(port: int) -> None:
    """Everything that can be read, in every way."""
    client = connected(port)
    ring = [client.read_input_registers(100 + at, count=64).registers for at in range(0, 256, 64)]
    say(
        {
            "holding": client.read_holding_registers(0, count=60).registers,
            "input": client.read_input_registers(0, count=60).registers,
            "ring": [register for block in ring for register in block],
            "coils": client.read_coils(0, count=12).bits[:12],
            "discrete": client.read_discrete_inputs(0, count=12).bits[:12],
        }
    )


def follow(port: int, count: int, seed: int) -> None:
    """Handles verdicts until there were so many. The connection breaks again and again, at any point."""
    random = Random(seed)
    client = connected(port)
    run = last = handled = 0

    def breaks() -> bool:
        if random.random() < 0.2:
            client.close()
            return True
        return False

    while handled < count:
        try:
            registers = client.read_holding_registers(0, count=60).registers
            breaks()
            if double(registers, 2) != run:
                run, last = double(registers, 2), 0
            sequence = double(registers, NEXT)
            if sequence > last:
                verdict = {"run": run, "sequence": sequence, "missing": sequence - last - 1}
                say({**verdict, "part": double(registers, NEXT + 2), "verdict": registers[NEXT + 4]})
                last = sequence
                handled += 1
            if sequence == 0:
                time.sleep(0.002)
                continue
            acknowledgment = [*registers[2:4], *registers[NEXT : NEXT + 2]]
            if random.random() < 0.2:
                # The answer gets lost.
                client.write_registers(ACKNOWLEDGE, acknowledgment, no_response_expected=True)
                client.close()
            elif random.random() < 0.5:
                client.write_registers(ACKNOWLEDGE, acknowledgment)
            else:
                client.readwrite_registers(
                    read_address=0, read_count=60, write_address=ACKNOWLEDGE, values=acknowledgment
                )
        except (ModbusException, OSError):
            client.close()
            time.sleep(0.01)


def attempt(port: int, source: str, *requests: str) -> None:
    """The exception code of each request, 0 for none, and null where the connection was closed."""
    client = connected(port, source)
    answers: list[int | None] = []
    for request in requests:
        kind, *numbers = request.split(",")
        address, *values = [int(number) for number in numbers]
        try:
            match kind:
                case "coils":
                    answer = client.read_coils(address, count=values[0])
                case "read":
                    answer = client.read_holding_registers(address, count=values[0])
                case "write":
                    answer = client.write_register(address, values[0])
                case "block":
                    answer = client.write_registers(address, values)
                case "coil":
                    answer = client.write_coil(address, bool(values[0]))
                case "exchange":
                    answer = client.readwrite_registers(
                        read_address=address, read_count=1, write_address=values[0], values=values[1:]
                    )
                case "mask":
                    answer = client.mask_write_register(address=address, and_mask=0, or_mask=values[0])
                case "identify":
                    answer = client.read_device_information(read_code=1, object_id=address)
                case _:
                    sys.exit(f"what is {kind}?")
            answers.append(answer.exception_code if answer.isError() else 0)
        except (ModbusException, OSError):
            client.close()
            answers.append(None)
    say(answers)


def poll(port: int, seconds: float) -> None:
    """Polls until it is ended, and says when it has begun."""
    client = connected(port)
    count = 0
    while True:
        time.sleep(seconds)
        try:
            registers = client.read_holding_registers(0, count=60).registers
        except (ModbusException, OSError):
            client.close()
            continue
        count += 1
        if count == 1:
            say({"run": double(registers, 2)})


def main() -> None:
    task, port, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    match task:
        case "read":
            read(port)
        case "follow":
            follow(port, int(rest[0]), int(rest[1]))
        case "attempt":
            attempt(port, *rest)
        case "poll":
            poll(port, float(rest[0]))
        case _:
            sys.exit(f"what is {task}?")


if __name__ == "__main__":
    main()
