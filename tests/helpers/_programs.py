"""Programs that JAX compiles quickly: the tests of transforms test what is compiled, not XLA."""

from __future__ import annotations

from typing import Any

# Half of the time goes to LLVM's optimisations and to kernels that fuse several operations.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compiled(function: Any, **how: Any) -> Any:
    """`jax.jit`, quickly."""
    import jax

    return jax.jit(function, compiler_options=QUICK, **how)


def in_one_program(function: Any, *arrays: Any) -> Any:
    """Compile once, not each operation, and call."""
    return compiled(function)(*arrays)
