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
# (900). RAY_ADDRESS names another cluster. Signals are fedray's: SIGTERM makes a checkpoint.
set -euo pipefail

usage() {
    echo "usage: ${BASH_SOURCE[0]} launch|sweep CONFIG DIR [OPTION...]" >&2
    echo "       ${BASH_SOURCE[0]} capacity CPUS" >&2
    exit 2
}

python=${PYTHON:-python3}

capacity() { # capacity CPUS: asks the autoscaler, and waits; 0 takes the request back
    exec "$python" - "$1" "${FEDRAY_WAIT_S:-900}" << 'END'
import os, sys, time
from fedray.config.schema import Runtime
from fedray.distributed.session import session
from fedray.errors import FedrayError
cpus, limit_s = int(sys.argv[1]), float(sys.argv[2])
deadline, there, parent = time.monotonic() + limit_s, 0.0, os.getppid()

def wait():
    global there
    with session(Runtime(address="auto")):
        import ray
        from ray.autoscaler.sdk import request_resources
        request_resources(num_cpus=cpus)
        while (there := ray.cluster_resources().get("CPU", 0.0)) < cpus:
            if time.monotonic() > deadline:
                raise TimeoutError
            if os.getppid() != parent:
                sys.exit("job.sh: ended while it waited for CPUs")
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
    # Takes the request back when this process, which will be fedray, is gone: however it went.
    (
        while kill -0 $$ 2> /dev/null; do sleep 0.5; done
        capacity 0
    ) > /dev/null 2>&1 < /dev/null &
    (capacity "$FEDRAY_CPUS")
fi
exec "${command[@]}"
