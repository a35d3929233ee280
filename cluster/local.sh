#!/usr/bin/env bash
# A Ray cluster of several nodes on this one machine: a head and N workers, each with ports, a
# temporary folder and an object store of its own. For trying out what a real cluster does.
#
#     cluster/local.sh start --workers 2
#     eval "$(cluster/local.sh env)"          # RAY_ADDRESS, the token, the jobs address
#     fedray launch --set runtime.address=auto
#     cluster/local.sh status
#     cluster/local.sh stop                   # these processes and no others
#
# All listens on loopback, and asks for a token that lies in a folder only you can read.
set -euo pipefail

usage() {
    cat >&2 << 'END'
usage: cluster/local.sh start [--workers N] [--cpus N] [--store-mb N] [--port N]
                              [--dashboard-port N] [--dir DIR]
       cluster/local.sh status|env|stop [--dir DIR]

  --workers N          nodes beside the head (2)
  --cpus N             CPUs that each node offers (1)
  --store-mb N         object store of each node, in MB (200)
  --port N             the head's port (6379; 0: a free one)
  --dashboard-port N   dashboard and jobs (8265; 0: a free one)
  --dir DIR            what the cluster writes, a short path (/tmp/fedray-cluster-UID)

PYTHON names the Python that has Ray; by default that of .venv, or python3.
END
    exit 2
}

die() {
    echo "local.sh: $*" >&2
    exit 1
}

number() { # number OPTION VALUE: a whole number, or the end
    [[ $2 =~ ^[0-9]{1,6}$ ]] || die "$1: '$2' is not a whole number"
    echo "$((10#$2))"
}

[[ $# -gt 0 ]] || usage
verb=$1
shift
workers=2 cpus=1 store_mb=200 port=6379 dashboard_port=8265
dir=/tmp/fedray-cluster-$(id -u)
while [[ $# -gt 0 ]]; do
    [[ $# -gt 1 ]] || usage
    case $1 in
        --workers) workers=$(number "$1" "$2") ;;
        --cpus) cpus=$(number "$1" "$2") ;;
        --store-mb) store_mb=$(number "$1" "$2") ;;
        --port) port=$(number "$1" "$2") ;;
        --dashboard-port) dashboard_port=$(number "$1" "$2") ;;
        --dir) dir=$(realpath -m -- "$2") ;;
        *) usage ;;
    esac
    shift 2
done

root=$(dirname -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")")
python=${PYTHON:-$root/.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3

# Ray replaces 127.0.0.1 by the address of the network card, and then listens on all of them. The
# variable keeps it from doing so where jobs are taken; Ray must not see it itself, or it refuses
# to start a second node.
ray_start=$(
    cat << 'END'
import os, sys
from ray._private import services
services.get_node_ip_address = lambda *_, **__: "127.0.0.1"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from ray.scripts.scripts import main
sys.exit(main())
END
)

# Every process of the cluster inherits this mark, and every node is a session of its own. Some
# of Ray's processes write their title over their environment, mark and all; but others of the
# same session keep it. That is how `stop` knows its own.
mark=FEDRAY_LOCAL_CLUSTER=$dir
sessions() {
    local marked
    marked=$(grep -lzxF -- "$mark" /proc/[0-9]*/environ 2> /dev/null | cut -d/ -f3 | paste -sd,)
    [[ -z $marked ]] || ps -o sid= -p "$marked" | sort -u | paste -sd, | tr -d ' '
}

processes() { # processes SESSIONS: those that live, of a list with commas
    [[ -z $1 ]] || ps -o stat=,pid= -s "$1" | awk '$1 !~ /^Z/ { print $2 }' || true
}

free_ports() { # free_ports N: as many, none of those that the kernel deals out meanwhile
    "$python" - "$1" << 'END'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(20000, 32768))))
    except OSError:
        continue
print(*(server.getsockname()[1] for server in held))
END
}

taken() { # taken PORT: somebody listens there
    (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

node() { # node NAME OPTION...: starts a node and waits until it is up
    local name=$1 agent grpc environment metrics
    shift
    read -r agent grpc environment metrics <<< "$(free_ports 4)"
    setsid --wait env "$mark" RAY_TMPDIR="$dir" RAY_AUTH_MODE=token \
        RAY_AUTH_TOKEN_PATH="$dir/token" RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}" \
        OMP_NUM_THREADS=1 "$python" -c "$ray_start" start "$@" \
        --node-ip-address=127.0.0.1 --num-cpus="$cpus" --temp-dir="$dir/$name" \
        --object-store-memory="$((store_mb * 1000000))" \
        --min-worker-port=0 --max-worker-port=0 \
        --dashboard-agent-listen-port="$agent" --dashboard-agent-grpc-port="$grpc" \
        --runtime-env-agent-port="$environment" --metrics-export-port="$metrics" \
        > "$dir/$name.log" 2>&1 < /dev/null || return
    echo "$metrics" > "$dir/$name.metrics"
}

up() { # up NAME STATUS: gives up on the whole cluster when a node did not start
    [[ $2 != 0 ]] || return 0
    tail -n 20 -- "$dir/$1.log" >&2
    stop
    die "the node '$1' did not start; what Ray said is above"
}

start() {
    [[ -z $(sessions) ]] || die "a cluster runs in $dir already; stop it, or give another --dir"
    [[ ${#dir} -le 30 ]] || die "--dir: '$dir' is too long for Ray's sockets; 30 characters at most"
    [[ $workers -ge 0 && $cpus -ge 1 && $store_mb -ge 80 ]] ||
        die "at least --cpus 1 and --store-mb 80, please"
    [[ ! -e $dir || -f $dir/token ]] || die "--dir: $dir exists already"
    local client any other
    read -r client any other <<< "$(free_ports 3)"
    ((port)) || port=$any
    ((dashboard_port)) || dashboard_port=$other
    ! taken "$port" || die "--port: $port is in use; choose another"
    ! taken "$dashboard_port" || die "--dashboard-port: $dashboard_port is in use; choose another"
    "$python" -c 'import ray' 2> /dev/null || die "PYTHON: $python has no Ray"
    "$python" -c 'import aiohttp, prometheus_client' 2> /dev/null ||
        echo "no dashboard, jobs or metrics: they take pip install 'fedray[cluster]'" >&2
    rm -rf -- "$dir" # what a crash left
    (umask 077 && mkdir -p -- "$dir") # fails where somebody else was faster: it is not ours
    [[ -O $dir ]] || die "--dir: $dir is somebody else's"
    (umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$dir/token")
    local status=0 i
    node head --head --port="$port" --ray-client-server-port="$client" \
        --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" || status=$?
    up head "$status"
    local -A starting=()
    for ((i = 1; i <= workers; i++)); do
        node "worker-$i" --address="127.0.0.1:$port" &
        starting[worker-$i]=$!
    done
    for i in "${!starting[@]}"; do
        status=0
        wait "${starting[$i]}" || status=$?
        up "$i" "$status"
    done
    write_env > "$dir/env"
    echo "a head and $workers workers, $cpus CPUs each, at 127.0.0.1:$port"
    echo "jobs and dashboard: http://127.0.0.1:$dashboard_port"
    echo "next: eval \"\$(${BASH_SOURCE[0]} env$(other_dir))\""
}

other_dir() {
    [[ $dir == "/tmp/fedray-cluster-$(id -u)" ]] || printf ' --dir %q' "$dir"
}

write_env() {
    printf 'export RAY_ADDRESS=127.0.0.1:%s\n' "$port"
    printf 'export RAY_API_SERVER_ADDRESS=http://127.0.0.1:%s\n' "$dashboard_port"
    printf 'export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0\n' # that Ray looks on loopback
    printf 'export RAY_AUTH_MODE=token\n'
    printf 'export RAY_AUTH_TOKEN_PATH=%q\n' "$dir/token"
}

need_running() {
    [[ -n $(sessions) && -f $dir/env ]] || die "no cluster runs in $dir"
}

status() {
    need_running
    # shellcheck source=/dev/null
    (
        . "$dir/env"
        "$python" - << 'END'
import os
from contextlib import ExitStack
from fedray.config.schema import Runtime
from fedray.distributed.session import session
with session(Runtime(address=os.environ["RAY_ADDRESS"])) as ray_session:
    for node in ray_session.nodes:
        print(f"{node.id[:12]}  {node.address}  {node.cpus:g} CPUs")
END
    )
    for file in "$dir"/*.metrics; do
        echo "metrics of $(basename -- "$file" .metrics): http://127.0.0.1:$(< "$file")/metrics"
    done
}

stop() { # asks, and three seconds later insists: Ray's own way out takes half a minute
    local found='' more signal
    for signal in TERM KILL KILL; do
        more=$(sessions)
        found=$found${more:+${found:+,}$more}
        processes "$found" | xargs -r kill -s "$signal" 2> /dev/null || true
        for _ in {1..15}; do
            [[ -n $(processes "$found") ]] || break 2
            sleep 0.2
        done
    done
    [[ -z $(processes "$found") ]] || die "still there: $(processes "$found" | xargs)"
    rm -rf -- "$dir"
}

case $verb in
    start) start ;;
    status) status ;;
    env)
        need_running
        cat -- "$dir/env"
        ;;
    stop)
        [[ -n $(sessions) || -f $dir/token ]] || die "no cluster runs in $dir"
        stop
        echo "stopped"
        ;;
    *) usage ;;
esac
