"""Builds an ONNX graph node by node, and writes it with its weights as a file to be mapped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""Of ONNX 1.12, which brought opset 17."""
PAGE = 4096
"""Weights start at multiples of this: a system's pages are what is mapped and given back."""
INLINE_BYTES = 8192
"""Smaller tensors stay in the graph's own file: less than a page is not worth a mapping."""

Attribute = int | float | str | list[int]


class GraphBuilder:
    """Adds nodes and weights under names that say where they belong: `scope/Op_1`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.domains = {"": OPSET}
        self._scopes: list[str] = []
        self._names: dict[str, int] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def node(
        self,
        op_type: str,
        *inputs: str,
        domain: str = "",
        version: int | None = None,
        output: str | None = None,
        **attributes: Attribute,
    ) -> str:
        """Add a node with one output; returns the output's name."""
        name = self._unique(op_type)
        result = output or name
        if version is not None:
            self.domains[domain] = version
        self.nodes.append(
            helper.make_node(op_type, inputs, [result], name=name, domain=domain, **attributes)
        )
        return result

    def split(self, value: str, axis: int, sizes: str, count: int) -> list[str]:
        """`count` parts along `axis`; `sizes` names an int64 tensor of their lengths."""
        name = self._unique("Split")
        outputs = [f"{name}:{index}" for index in range(count)]
        self.nodes.append(helper.make_node("Split", [value, sizes], outputs, name=name, axis=axis))
        return outputs

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """Add float weights under the name they have in the state dict, or one made from it."""
        if name in self.weights:
            raise ValueError(f"two weights are called {name}")
        self.weights[name] = np.ascontiguousarray(value, np.float32)
        return name

    def floats(self, *values: float, shape: tuple[int, ...] = ()) -> str:
        return self._constant(np.array(values, np.float32).reshape(shape or len(values)))

    def scalar(self, value: float) -> str:
        return self._constant(np.float32(value).reshape(()))

    def scalar_int(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))

    def ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, value: NDArray[Any]) -> str:
        content = "_".join(str(x) for x in value.ravel().tolist()).replace("-", "m")
        shape = "x".join(map(str, value.shape))
        name = f"constant/{value.dtype}_{shape}_{content}"
        self.weights.setdefault(name, value)
        return name

    def _unique(self, op_type: str) -> str:
        stem = "/".join([*self._scopes, op_type])
        count = self._names[stem] = self._names.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}_{count}"

    def save(
        self,
        path: Path,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        producer: str,
    ) -> Path:
        """Write the graph to `path` and large weights to the file beside it, whose path it returns.

        Weights lie in the order of their first use, as a run reads them.
        """
        graph = helper.make_graph(self.nodes, "m2fp", inputs, outputs)
        model = helper.make_model(
            graph,
            producer_name=producer,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid(d, v) for d, v in self.domains.items()],
        )
        return save(model, self.weights, path)


def save(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], path: Path) -> Path:
    """Write a graph to `path`, and of its weights the large ones to the file beside it, whose path
    it returns. They lie in the order of their first use, as a run reads them; unused ones go."""
    used = dict.fromkeys(name for node in model.graph.node for name in node.input)
    ordered = [name for name in used if name in weights]
    data = path.with_name(path.name + ".data")
    del model.graph.initializer[:]
    with data.open("wb") as file:
        model.graph.initializer.extend(
            _tensor(name, weights[name], file, data.name) for name in ordered
        )
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))
    return data


def _tensor(name: str, value: NDArray[Any], file: BinaryIO, location: str) -> TensorProto:
    if value.nbytes < INLINE_BYTES:
        return numpy_helper.from_array(value, name)
    file.write(bytes(-file.tell() % PAGE))
    tensor = TensorProto(
        name=name,
        dims=value.shape,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    entries = {"location": location, "offset": file.tell(), "length": value.nbytes}
    for key, entry in entries.items():
        tensor.external_data.add(key=key, value=str(entry))
    file.write(value.tobytes())
    return tensor
