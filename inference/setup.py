"""The part in C, which reads large requests and writes their answers.

Optional: without a compiler the server does the same in Python. Python's headers are not needed:
`creditmodel_inference.native` loads it as a plain library.
"""

import os
import shutil
import sysconfig

from setuptools import Extension, setup

# A Python that was built elsewhere names the compiler it was built with, which need not be here.
if shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None:
    os.environ.setdefault("CC", "cc")

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
