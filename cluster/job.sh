#!/usr/bin/env bash
# Starts a run or a sweep on the cluster of this machine, or goes on with it: the same line
# again, after whatever has ended it, continues from the newest checkpoint. That is what jobs
# that are tried again need. In the image it is /usr/local/bin/fedray-job.
#
#     cluster/job.sh launch CONFIG DIR [OPTION...]     options of fedray launch
#     cluster/job.sh sweep  CONFIG DIR [OPTION...]     or sweep, for its beginning only
#     cluster/job.sh capacity CPUS                     asks the autoscaler, waits; 0: no more
#
# DIR outlives the cluster: shared storage or a volume. With FEDRAY_CPUS a job asks for so many
# CPUs first, and takes the request back in the end. Waiting takes at most FEDRAY_WAIT_S seconds
# (900). RAY_ADDRESS names another cluster. SIGTERM and SIGINT end a run early, with a checkpoint
# and status 130.
set -euo pipefail

usage() {
    echo "usage: ${BASH_SOURCE[0]} launch|sweep CONFIG DIR [OPTION...]" >&2
    echo "       ${BASH_SOURCE[0]} capacity CPUS" >&2
    exit 2
}

python=${PYTHON:-python3}

capacity() { # capacity CPUS: asks the autoscaler, and waits; 0 takes the request back
    exec "$python" - "$1" "${FEDRAY_WAIT_S:-900}" << 'END'
import sys, time
from fedray.config.schema import Runtime
from fedray.distributed.session import session
from fedray.errors import FedrayError
cpus, limit_s = int(sys.argv[1]), float(sys.argv[2])
deadline, there = time.monotonic() + limit_s, 0.0

def wait():
    global there
    with session(Runtime(address="auto")):
        import ray
        from ray.autoscaler.sdk import request_resources
        request_resources(num_cpus=cpus)
        while (there := ray.cluster_resources().get("CPU", 0.0)) < cpus:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.5)

while True:
    try:
        sys.exit(wait())
    except TimeoutError:
        sys.exit(f"job.sh: {there:g} of {cpus} CPUs (FEDRAY_CPUS) after {limit_s:g} s")
    except FedrayError as error:  # the head may not be up yet
        if time.monotonic() > deadline or not cpus:
            sys.exit(f"job.sh: {error}")
        time.sleep(1)
END
}

case ${1:-} in
    capacity)
        [[ $# -eq 2 && $2 =~ ^[0-9]+$ ]] || usage
        capacity "$2"
        ;;
    launch | sweep)
        [[ $# -ge 3 ]] || usage
        verb=$1 config=$2 dir=$3
        shift 3
        ;;
    *) usage ;;
esac

child='' ended='' signal=TERM
# shellcheck disable=SC2317 # called by a trap
forward() { # what Slurm and Kubernetes send becomes what fedray makes a checkpoint for
    ended=yes
    [[ -z $child ]] || kill -s "$signal" "$child" 2> /dev/null || true
}
trap forward TERM INT

finish() { # finish COMMAND...: runs it to its end, whatever signals come; its status
    local status=0
    "$@" &
    child=$!
    wait "$child" || status=$?
    while kill -0 "$child" 2> /dev/null; do # a signal has ended the wait, not the child
        status=0
        wait "$child" || status=$?
    done
    child=''
    return "$status"
}

here=(--set "runtime.address=auto" --set "runtime.start_timeout_s=600")
if [[ $verb == launch && -f $dir/summary.json ]]; then
    echo "job.sh: $dir is finished"
    exit 0
elif [[ -f $dir/config.yaml || -f $dir/sweep.yaml ]]; then
    command=(fedray "$verb" --resume "$dir" "${here[@]}")
else
    rm -f -- "$dir/.lock" # of a start that came to nothing
    command=(fedray "$verb" "$config" --out "$dir" "${here[@]}" "$@")
fi

if [[ -n ${FEDRAY_CPUS:-} ]]; then
    trap '(capacity 0) || true' EXIT
    finish capacity "$FEDRAY_CPUS" || exit "$([[ -n $ended ]] && echo 130 || echo 1)"
fi
[[ -z $ended ]] || exit 130
# Background commands of a script ignore SIGINT unless they are told not to.
heed='import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])'
signal=INT
finish "$python" -c "$heed" "${command[@]}"
