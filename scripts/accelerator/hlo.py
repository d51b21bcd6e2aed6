"""What a compiled program starts on its device: kernels counted in the text of its optimised HLO."""

import re
from collections import Counter
from typing import NamedTuple

# Instructions that start nothing: they name memory, or end what another one began.
NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency",
    "opt-barrier", "partition-id", "replica-id", "copy-done", "fusion-done", "async-done", "async-update",
}  # fmt: skip
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
OPERATION = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
TURNS = re.compile(r'"known_trip_count":\s*\{"n":\s*"(\d+)"')
TARGET = re.compile(r'custom_call_target="([^"]+)"')


class Instruction(NamedTuple):
    """One line of a computation."""

    operation: str
    text: str  # what follows the name

    def called(self, role: str) -> str | None:
        """The computation that it names as `role`, such as body."""
        found = re.search(role + r"=%?([\w.\-]+)", self.text)
        return found[1] if found else None


class Program(NamedTuple):
    """Computations by name, and which of them begins."""

    computations: dict[str, list[Instruction]]
    entry: str

    @classmethod
    def of(cls, text: str) -> "Program":
        """Read what `compiled.as_text()` says."""
        computations: dict[str, list[Instruction]] = {}
        entry, here = "", []
        for line in text.splitlines():
            head, body = HEAD.match(line), LINE.match(line)
            if head:
                here = computations.setdefault(head[2], [])
                entry = head[2] if head[1] else entry
            elif body:
                found = OPERATION.search(" " + body[2])
                if found:
                    here.append(Instruction(found[1], body[2]))
        return cls(computations, entry)

    def kernels(self, name: str) -> Counter[str]:
        """How many kernels of which kind a computation starts, loops with all of their turns."""
        total: Counter[str] = Counter()
        for one in self.computations.get(name, []):
            total.update(self._kernels_of(one))
        return total

    def _kernels_of(self, one: Instruction) -> Counter[str]:
        if one.operation in NOTHING:
            return Counter()
        if one.operation == "while":
            body, condition = (self.kernels(one.called(r) or "") for r in ("body", "condition"))
            known = TURNS.search(one.text)
            turns = int(known[1]) if known else 1
            if not known:  # the host must read whether to go on
                body.update(condition + Counter({"unknown turns": 1}))
            return Counter({kind: turns * n for kind, n in body.items()})
        if one.operation == "conditional":
            branches = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.text)
            listed = re.search(r"branch_computations=\{([^}]*)\}", one.text)
            branches += re.findall(r"%?([\w.\-]+)", listed[1]) if listed else []
            return max((self.kernels(branch) for branch in branches), key=lambda c: c.total())
        if one.operation in ("call", "async-start"):
            return self.kernels(one.called("to_apply") or one.called("calls") or "")
        return Counter({kind_of(one): 1})

    def training_loop(self) -> str:
        """The body of the loop with the most kernels: the steps of a chunk."""
        loops = [
            one.called("body") or ""
            for lines in self.computations.values()
            for one in lines
            if one.operation == "while"
        ]
        return max(loops, key=lambda body: self.kernels(body).total(), default=self.entry)


def kind_of(one: Instruction) -> str:
    """What a kernel does, in a word: a product, a fusion that sums, a plain one, a copy, .."""
    target = TARGET.search(one.text)
    if target:
        is_product = any(word in target[1].lower() for word in ("gemm", "cublas", "matmul", "dot"))
        return "product (library)" if is_product else target[1]
    if one.operation != "fusion":
        return {"dot": "product", "copy-start": "copy", "fusion-start": "fusion"}.get(
            one.operation, one.operation
        )
    computation = one.called("calls") or ""
    if "__triton_nested_gemm_fusion" in one.text or "gemm_fusion" in computation:
        return "product (fused)"
    if "kind=kInput" in one.text or "reduce" in computation:
        return "fusion with a sum"
    return "fusion"
