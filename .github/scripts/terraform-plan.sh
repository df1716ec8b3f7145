#!/usr/bin/env bash
# terraform-plan.sh [option of terraform plan]…: plan one environment into $RUNNER_TEMP/tfplan, and show it in the job summary.
# Environment: ENVIRONMENT (dev, prod), BACKEND (text of backend.hcl), VARIABLES (text of terraform.tfvars).
set -euo pipefail

case ${ENVIRONMENT:-} in
  dev | prod) ;;
  *) echo "ENVIRONMENT is '${ENVIRONMENT:-}'; it must be dev or prod" >&2; exit 2 ;;
esac
for name in BACKEND VARIABLES; do
  if [ -z "${!name:-}" ]; then
    echo "$name is empty; set the repository's variable (terraform/README.md, In the pipeline)" >&2
    exit 2
  fi
done

directory=terraform/environments/$ENVIRONMENT
printf '%s\n' "$BACKEND" > "$RUNNER_TEMP/backend.hcl"
printf '%s\n' "$VARIABLES" > "$RUNNER_TEMP/$ENVIRONMENT.tfvars"
if [ -f "$directory/.terraform.lock.hcl" ]; then
  locked=(-lockfile=readonly)
else
  locked=()
  echo "::warning::$directory has no .terraform.lock.hcl: the provider is pinned by its version only (terraform/README.md)"
fi
terraform -chdir="$directory" init -backend-config="$RUNNER_TEMP/backend.hcl" "${locked[@]}"
terraform -chdir="$directory" plan "$@" -var-file="$RUNNER_TEMP/$ENVIRONMENT.tfvars" -out="$RUNNER_TEMP/tfplan"
{
  printf '## Plan of %s\n\n~~~~~~~~\n' "$ENVIRONMENT"
  # A job summary holds 1 MiB.
  terraform -chdir="$directory" show -no-color "$RUNNER_TEMP/tfplan" | head -c 900000
  printf '\n~~~~~~~~\n'
} >> "$GITHUB_STEP_SUMMARY"
