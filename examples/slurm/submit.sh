#!/bin/bash
# Features of many images by a Slurm array.
#
#   submit.sh TASKS PLAN OUTPUT IMAGES... [options of `cnncodes plan`]
#
# makes the plan if there is none, starts an array of TASKS tasks, and a merge after it. PLAN lies on storage that all nodes
# share. Run it again after a failure, with any number of tasks: parts that are there are kept. SBATCH_* variables (such as
# SBATCH_PARTITION and SBATCH_ACCOUNT) reach both jobs.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2
    exit 2
fi
tasks=$1 plan=$2 output=$3
shift 3
scripts=$(cd "$(dirname "$0")" && pwd)

if [ ! -e "$plan/plan.json" ]; then
    # Status 1: some images cannot be used, and the plan says which.
    cnncodes plan "$@" -o "$plan" || [ $? -eq 1 ]
fi
export PLAN=$plan OUTPUT=$output
array=$(sbatch --parsable --export=ALL --array="0-$((tasks - 1))" "$scripts/extract.sbatch")
merge=$(sbatch --parsable --export=ALL --dependency="afterok:$array" --kill-on-invalid-dep=yes "$scripts/merge.sbatch")
echo "array $array, merge $merge; cnncodes extract --status $plan says what is done"
