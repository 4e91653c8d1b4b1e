"""CuPy's kernels on the host: their expressions compiled by g++, in loops such as CuPy's.

What the made-up CuPy of `_foreign` runs is then the kernels' own code, threads and all.
"""

from __future__ import annotations

import ctypes
import shutil
import string
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = shutil.which("g++")
THREADS = 4  # that share a row; with fewer classes some have nothing to sum
HEAD = """
#include <cmath>
#include <cstdint>
#define __device__
using std::exp; using std::log;
typedef int64_t int64; typedef uint32_t uint32;
struct float16 {
    uint16_t bits;
    float16() = default;
    explicit float16(float x) {
        const float a = std::fabs(x);
        bits = x != x ? 0x7e00 : a >= 65520 ? 0x7c00 : 0;
        if (a < 65520 && a > 0) {
            const int e = std::ilogb(a) < -14 ? -14 : std::ilogb(a);
            bits = (e + 14) * 1024 + int(std::nearbyint(std::ldexp(a, 10 - e)));
        }
        bits |= std::signbit(x) << 15;
    }
    operator float() const {
        const int e = bits >> 10 & 31, m = bits & 1023;
        const float a = e == 31 ? (m ? NAN : INFINITY)
                                : std::ldexp(float(e ? m + 1024 : m), (e ? e : 1) - 25);
        return bits >> 15 ? -a : a;
    }
};
"""
ELEMENTS = """
$typedefs
$preamble
extern "C" void run(int64 size, int ndim, const int64* shape, char** data, const int64* strides) {
    for (int64 i = 0; i < size; ++i) {
        int64 at[$count] = {};
        for (int64 d = ndim - 1, left = i; d >= 0; left /= shape[d--])
            for (int k = 0; k < $count; ++k) at[k] += left % shape[d] * strides[k * ndim + d];
        $bind
        { $operation; }
    }
}
"""
REDUCTION = """
$typedefs
$preamble
typedef $reduce_type reduced;
extern "C" void run(int64 size, int64 classes, char** data, const int64*) {
    for (int64 i = 0; i < size; ++i) {
        reduced shared[$threads];
        for (int thread = 0; thread < $threads; ++thread) {
            reduced s = reduced($identity);
            for (int64 j = thread; j < classes; j += $threads) {
                const $in_type $in_name = (($in_type*)data[0])[i * classes + j];
                reduced a = s, b = static_cast<reduced>($map_expr);
                s = $reduce_expr;
            }
            shared[thread] = s;
        }
        for (int half = $threads / 2; half; half /= 2)
            for (int thread = 0; thread < half; ++thread) {
                reduced a = shared[thread], b = shared[thread + half];
                shared[thread] = $reduce_expr;
            }
        int64 at[$count]; for (int k = 0; k < $count; ++k) at[k] = i * $width;
        $bind
        reduced a = shared[0];
        $post_map_expr;
    }
}
"""


@cache
def compiled(source: str) -> Any:
    """Compile a source to a function."""
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        code.write_text(HEAD + source)
        options = "-O1 -ffp-contract=off -shared -fPIC -Wall -Werror -Wno-unused-variable".split()
        command = [str(COMPILER), *options, str(code), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert not done.returncode, done.stderr
        return ctypes.CDLL(str(library)).run


class Parameters:
    """What CuPy reads of a kernel's parameter lists."""

    def __init__(self, ins: str, outs: str) -> None:
        parts = [one.split() for one in f"{ins}, {outs}".split(",")]
        self.raw = [one[0] == "raw" for one in parts]
        self.kinds, self.names = [one[-2] for one in parts], [one[-1] for one in parts]
        self.inputs = len(ins.split(","))

    def arrays(self, given: tuple[Any, ...]) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Take the arguments' memory, and tell the types of the letters; scalars have none."""
        assert len(given) == len(self.names)
        hosts = [getattr(one, "_host", one) for one in given]
        types: dict[str, Any] = {}
        for kind, one in reversed(list(zip(self.kinds, hosts, strict=True))):
            if isinstance(one, np.ndarray):
                fixed = None if len(kind) == 1 else np.dtype(kind)
                assert types.setdefault(kind, fixed or one.dtype) == one.dtype, (kind, one.dtype)
        pairs = zip(self.kinds, hosts, strict=True)
        return [np.asarray(one, dtype=types.get(kind) or kind) for kind, one in pairs], types

    def typedefs(self, types: dict[str, Any]) -> str:
        """Write the types as CuPy does."""
        names = {"float32": "float", "float64": "double"}
        letters = {kind: dtype.name for kind, dtype in types.items() if len(kind) == 1}
        return "".join(f"typedef {names.get(t, t)} {kind};\n" for kind, t in letters.items())

    def bind(self, places: range) -> str:
        """Write what names an element of each argument, or a whole raw one."""
        lines = []
        for k in places:
            kind, name, memory = self.kinds[k], self.names[k], f"data[{k}]"
            const = "const " if k < self.inputs else ""
            if self.raw[k]:
                lines.append(f"{const}{kind}* {name} = ({kind}*){memory};")
            else:
                lines.append(f"{const}{kind}& {name} = *({kind}*)({memory} + at[{k}]);")
        return "\n".join(lines)


def call(source: str, *arguments: Any) -> None:
    """Compile and run; arrays are handed over by their addresses."""
    count, *shape, arrays, strides = arguments
    data = (ctypes.c_void_p * len(arrays))(*(one.ctypes.data for one in arrays))
    steps = (ctypes.c_int64 * max(1, len(strides)))(*strides)
    compiled(source)(ctypes.c_int64(count), *shape, data, steps)


class ElementwiseKernel:
    """An operation for each element."""

    def __init__(self, ins: str, outs: str, operation: str, name: str, preamble: str = "") -> None:
        self.parameters, self.name = Parameters(ins, outs), name
        self.operation, self.preamble = operation, preamble

    def __call__(self, *given: Any) -> Any:
        parameters = self.parameters
        arrays, types = parameters.arrays(given)
        walked = [one for one, raw in zip(arrays, parameters.raw, strict=True) if not raw]
        shape = np.broadcast_shapes(*(one.shape for one in walked))
        # CuPy finds a raw array's elements by its strides; here they are put in order.
        kinds = list(zip(parameters.raw, arrays, strict=True))
        raw_outputs = [one for raw, one in kinds[parameters.inputs :] if raw]
        assert all(one.flags.c_contiguous for one in raw_outputs)
        arrays = [
            np.ascontiguousarray(one).reshape(one.shape) if raw else one
            for raw, one in zip(parameters.raw, arrays, strict=True)
        ]
        outputs = arrays[parameters.inputs :]
        assert all(raw or out.shape == shape for raw, out in zip(
            parameters.raw[parameters.inputs :], outputs, strict=True))  # fmt: skip
        views = [
            one if raw else np.broadcast_to(one, shape)
            for raw, one in zip(parameters.raw, arrays, strict=True)
        ]
        strides = [
            step
            for raw, one in zip(parameters.raw, views, strict=True)
            for step in ((0,) * len(shape) if raw else one.strides)
        ]
        source = string.Template(ELEMENTS).substitute(
            typedefs=parameters.typedefs(types), preamble=self.preamble, count=len(arrays),
            bind=parameters.bind(range(len(arrays))), operation=self.operation,
        )  # fmt: skip
        sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        call(source, int(np.prod(shape)), len(shape), sizes, views, strides)
        return given[-1]


class ReductionKernel:
    """A sum over an axis, in as many parts as there are threads."""

    def __init__(self, ins: str, outs: str, **code: str) -> None:
        self.parameters, self.name, self.code = Parameters(ins, outs), code.pop("name"), code

    def __call__(self, *given: Any, axis: int, keepdims: bool) -> Any:
        assert keepdims
        (z, *outputs), types = self.parameters.arrays(given)
        rows = np.ascontiguousarray(np.moveaxis(z, axis, -1))
        assert all(out.flags.c_contiguous and out.size * z.shape[axis] == z.size for out in outputs)
        count = len(outputs) + 1
        source = string.Template(REDUCTION).substitute(
            self.code, typedefs=self.parameters.typedefs(types), threads=THREADS, count=count,
            in_type=self.parameters.kinds[0], in_name=self.parameters.names[0],
            bind=self.parameters.bind(range(1, count)), width=outputs[0].itemsize,
        )  # fmt: skip
        call(source, outputs[0].size, ctypes.c_int64(z.shape[axis]), [rows, *outputs], [])
        return given[1]
