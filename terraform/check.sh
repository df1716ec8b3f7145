#!/usr/bin/env bash
# check.sh: format, documentation, validation and tests of every module and environment. Needs terraform, Python and the
# provider registry; nothing of AWS, whose answers the tests mock.
set -euo pipefail
cd "$(dirname "$0")"

terraform fmt -check -recursive
python3 docs.py --check
for directory in bootstrap modules/* environments/*; do
  echo "== $directory"
  terraform -chdir="$directory" init -backend=false -input=false >/dev/null
  terraform -chdir="$directory" validate
  terraform -chdir="$directory" test
done
