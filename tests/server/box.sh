#!/bin/bash
# box.sh   run a real systemd as PID 1 of new namespaces, on an overlay of this machine's root
#   box.sh up                 boot; do nothing if it is running
#   box.sh run CMD [ARG..]    run CMD inside; its exit status is CMD's
#   box.sh down               stop it, and remove all of its mounts and cgroups
#   box.sh status
# Requires root. Files written inside are in memory and are lost at "down", except below BOX_BIND.
# /tmp, /run and /dev are not shared with the machine, since systemd empties /tmp at boot.
# env: BOX_DIR   BOX_CGROUP hybrid|legacy|unified   BOX_NET host|private   BOX_BIND "dir dir"
set -euo pipefail
BOX_DIR=${BOX_DIR:-/tmp/kconnd-box}; BOX_CGROUP=${BOX_CGROUP:-hybrid}; BOX_NET=${BOX_NET:-host}; BOX_BIND=${BOX_BIND:-}
NAME=$(basename "$BOX_DIR"); ROOT=$BOX_DIR/root; PIDF=$BOX_DIR/init.pid; CGF=$BOX_DIR/cgroups
SELF=$(readlink -f "$0")

alive() { [ -s "$PIDF" ] && kill -0 "$(cat "$PIDF")" 2>/dev/null; }
in_box() { ( cd /; exec nsenter --target "$(cat "$PIDF")" --mount --uts --ipc --net --pid --cgroup --root \
             env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@" ); }

make_cgroups() { # a child of *our own* cgroup in every mounted hierarchy, and move this subshell into it
  local snap; snap=$(cat /proc/self/cgroup); : > "$CGF"    # a snapshot: the file changes under us as we move
  while IFS=: read -r _ ctl path; do
    case $ctl in '') mp=/sys/fs/cgroup/unified;; name=*) mp=/sys/fs/cgroup/${ctl#name=};; *) mp=/sys/fs/cgroup/$ctl;; esac
    mountpoint -q "$mp" || continue
    d=$mp${path%/}/$NAME; mkdir -p "$d"
    if [ "$ctl" = cpuset ]; then cat "$mp${path%/}/cpuset.cpus" > "$d/cpuset.cpus"; cat "$mp${path%/}/cpuset.mems" > "$d/cpuset.mems"; fi
    echo "$BASHPID" > "$d/cgroup.procs"; echo "$d" >> "$CGF"      # $BASHPID: $$ is the parent script in a subshell
  done <<< "$snap"
  cp "/proc/$BASHPID/cgroup" "$BOX_DIR/self.cgroup"
}

setup_and_exec() { # runs inside the new namespaces as their PID 1
  mount --make-rprivate /
  for _ in $(seq 250); do [ -e "$BOX_DIR/go" ] && break; sleep 0.02; done
  mount -t overlay overlay -o "lowerdir=/,upperdir=$BOX_DIR/up,workdir=$BOX_DIR/wk" "$ROOT"
  cd "$ROOT"
  # nothing that the host has enabled shall start here
  rm -rf etc/systemd/system/*.wants etc/systemd/system/dbus-org.freedesktop.timesync1.service etc/rc?.d/*
  for u in systemd-timesyncd systemd-udevd systemd-pstore systemd-resolved getty@tty1 console-getty e2scrub_reap \
           systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger systemd-networkd; do
    case $u in *.socket) ;; *) u=$u.service;; esac; ln -sfn /dev/null etc/systemd/system/$u; done
  mkdir -p etc/tmpfiles.d; ln -sfn /dev/null etc/tmpfiles.d/tmp.conf   # its 'D /tmp' EMPTIES /tmp (and bind mounts' sources!) at boot
  : > etc/fstab; echo "$NAME" > etc/hostname; rm -f etc/machine-id; tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
  mkdir -p etc/systemd/journald.conf.d; printf '[Journal]\nStorage=volatile\n' > etc/systemd/journald.conf.d/box.conf
  rm -f usr/sbin/policy-rc.d
  mount -t proc -o nosuid,nodev,noexec proc proc
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run; mkdir -p run/lock
  mount -t tmpfs -o mode=755,nosuid tmpfs dev
  for n in null zero full random urandom tty; do : > dev/$n; mount --bind /dev/$n dev/$n; done
  [ ! -e /dev/fuse ] || { : > dev/fuse; mount --bind /dev/fuse dev/fuse; }
  : > dev/console; : > "$BOX_DIR/console.log"; mount --bind "$BOX_DIR/console.log" dev/console
  mkdir dev/pts dev/shm dev/mqueue; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts; ln -s pts/ptmx dev/ptmx
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
  if [ "$BOX_CGROUP" = unified ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
  else
    mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs sys/fs/cgroup
    while IFS=: read -r _ ctl path; do
      case $path in */$NAME) ;; *) continue;; esac                     # a hierarchy that the host does not mount
      case $ctl in '') [ "$BOX_CGROUP" = hybrid ] || continue; mkdir sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 sys/fs/cgroup/unified;;
        name=*) mkdir sys/fs/cgroup/${ctl#name=}; mount -t cgroup -o none,$ctl cgroup sys/fs/cgroup/${ctl#name=};;
        *) mkdir sys/fs/cgroup/$ctl; mount -t cgroup -o $ctl cgroup sys/fs/cgroup/$ctl;; esac
    done < "$BOX_DIR/self.cgroup"
    # systemd mounts every v1 hierarchy it finds missing; keep it from touching others: make them look mounted
    for c in perf_event hugetlb net_cls,net_prio cpu,cpuacct rdma misc; do mkdir -p sys/fs/cgroup/$c; mount -t tmpfs -o ro,mode=755 none sys/fs/cgroup/$c; done
    mount -o remount,ro,mode=755,nosuid,nodev,noexec tmpfs sys/fs/cgroup
  fi
  for b in $BOX_BIND; do mkdir -p "$ROOT$b"; mount --bind "$b" "$ROOT$b"; done
  hostname "$NAME"
  if [ "$BOX_NET" = private ]; then ip link set lo up; fi
  mkdir -p run/.old; mount --rbind "$ROOT" "$ROOT"; cd "$ROOT"
  pivot_root . run/.old; cd /; umount -l /run/.old; rmdir /run/.old
  exec env -i container=kcbox PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=0 --log-target=journal --log-level=info < /dev/null > /dev/null 2>&1
}

up() {
  if alive; then return 0; fi
  down_quiet; mkdir -p "$BOX_DIR"
  mount -t tmpfs -o mode=755 "$NAME" "$BOX_DIR"; mkdir -p "$BOX_DIR"/{up,wk,root}
  ( make_cgroups
    net=; [ "$BOX_NET" = private ] && net=--net
    export BOX_DIR BOX_CGROUP BOX_NET BOX_BIND; cd /
    exec setsid unshare --cgroup --mount --ipc --uts --pid $net --fork "$SELF" _init < /dev/null > "$BOX_DIR/boot.log" 2>&1 ) &
  u=$!; p=
  for _ in $(seq 250); do
    if [ "$(cat /proc/$u/comm 2>/dev/null)" = unshare ]; then p=$(pgrep -P "$u" || true); [ -n "$p" ] && break; fi; sleep 0.02; done
  echo "$p" > "$PIDF"
  # the unshare parent must leave the box's cgroups (else systemctl status: EIO; cgroup2: no-internal-process rule)
  while read -r d; do echo "$u" > "$(dirname "$d")/cgroup.procs"; done < "$CGF"
  : > "$BOX_DIR/go"
  for _ in $(seq 300); do
    alive || { echo "box died:" >&2; cat "$BOX_DIR/boot.log" "$BOX_DIR/console.log" >&2; return 1; }
    [ "$(readlink /proc/$p/exe)" = /usr/lib/systemd/systemd ] && [ -S /proc/$p/root/run/dbus/system_bus_socket ] &&
      s=$(in_box systemctl is-system-running 2>/dev/null || true) && case $s in running|degraded) return 0;; esac
    sleep 0.05
  done
  echo "box did not come up: ${s:-}" >&2; cat "$BOX_DIR/boot.log" "$BOX_DIR/console.log" >&2; return 1
}

down_quiet() {
  if alive; then p=$(cat "$PIDF")
    kill -s RTMIN+4 "$p" 2>/dev/null || true            # SIGRTMIN+4: start poweroff.target
    for _ in $(seq 200); do kill -0 "$p" 2>/dev/null || break; sleep 0.05; done
    kill -KILL "$p" 2>/dev/null || true; for _ in $(seq 40); do kill -0 "$p" 2>/dev/null || break; sleep 0.05; done
  fi
  if [ -s "$CGF" ]; then tac "$CGF" | while read -r d; do
      for _ in 1 2 3 4 5; do [ -d "$d" ] || break; find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1; done; done; fi
  if mountpoint -q "$BOX_DIR" 2>/dev/null; then umount -l "$BOX_DIR"; fi
  rmdir "$BOX_DIR" 2>/dev/null || true
}
case ${1:-} in
  up) up;; down) down_quiet;; _init) setup_and_exec;;
  status) if alive; then echo "up pid $(cat "$PIDF")"; else echo down; exit 3; fi;;
  run) shift; up; in_box "$@";;
  *) sed -n 2,10p "$0"; exit 2;;
esac
