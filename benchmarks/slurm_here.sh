#!/usr/bin/env bash
# A SLURM of one node on this machine, for as long as one command runs: to try `--profile slurm` for real.
#
#     apt-get install slurm-wlm munge
#     benchmarks/slurm_here.sh widthprune rerun --model smollm2-135m-instruct --ratios 2.2 --profile slurm
#
# Needs root, since slurmd starts jobs as their users. There is no accounting database, so the executor asks
# squeue. The node claims the processors that the profile asks for, whatever this machine has.
set -euo pipefail
# The executor drops SLURM_CONF from a job's environment, so the file must lie where SLURM looks by itself.
conf=/etc/slurm/slurm.conf
[ ! -e "$conf" ] || { echo "$conf exists: this machine has a SLURM, use that" >&2; exit 2; }
[ -f /etc/munge/munge.key ] || { echo "no /etc/munge/munge.key: apt-get install munge" >&2; exit 2; }
state=$(mktemp -d)
memory=$(free -m | awk '/^Mem:/ {print int($2 * 0.9)}')
cat > "$conf" <<CONF
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/slurmd
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
mkdir "$state/ctld" "$state/slurmd" "$state/munge"

stop() {
    scancel --state=PENDING,RUNNING -u root 2> /dev/null || true
    for name in slurmd slurmctld munged; do
        [ -f "$state/$name.pid" ] && kill "$(cat "$state/$name.pid")" || true
    done
    rm -f "$conf"
    echo "logs: $state"
}
trap stop EXIT
mkdir -p /run/munge && chown munge: /run/munge
chown munge: "$state/munge" && chmod 755 "$state" "$state/munge"
setpriv --reuid munge --regid munge --clear-groups munged --force \
    --pid-file "$state/munge/munged.pid" --log-file "$state/munge/munged.log"
ln -s munge/munged.pid "$state/munged.pid"
slurmctld > /dev/null 2>&1
slurmd > /dev/null 2>&1
for _ in $(seq 30); do sinfo -h -o %T 2> /dev/null | grep -q idle && break; sleep 1; done
sinfo
"$@"
