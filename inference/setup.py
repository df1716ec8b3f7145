"""The part in C, which reads large requests and writes their answers.

Optional: without a compiler the server does the same in Python. Python's headers are not needed:
`creditmodel_inference.native` loads it as a plain library.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "creditmodel_inference._native",
            ["native/scan.c", "native/results.c"],
            # The same bits in every build: no fused multiplication, no paths, no symbols.
            extra_compile_args=["-std=c11", "-O2", "-g0", "-ffp-contract=off", "-fvisibility=hidden"],
            extra_link_args=["-Wl,-s", "-Wl,--build-id=none"],
            optional=True,
        )
    ]
)
