/**
 * A real Linux kernel as judge: Debian's user-mode-linux boots in a few seconds, without root and without KVM, with device-mapper,
 * LVM2 and the host's other programs. What it activates, reads and mounts is the last word on what we write.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

/** Whether it can boot here, and these programs are there for it. */
export function haveKernel(...programs: readonly string[]): boolean {
  return havePeer("linux.uml", "kmod", ...programs);
}

export interface KernelJob {
  /** A bash script; the disks are /dev/ubda, /dev/ubdb …; `/mnt` is `folder`. It runs with `set -e`. */
  readonly script: string;
  /** Files that are the disks. */
  readonly disks: readonly string[];
  /** Written by the script, read afterwards. Default: a folder of its own. */
  readonly folder?: string;
  /** The machine loses its power after so long. */
  readonly killAfterMs?: number;
  readonly timeoutMs?: number;
}

const MODULES =
  "dm-mod raid1 raid0 raid10 raid456 dm-raid dm-snapshot dm-thin-pool dm-mirror dm-zero dm-flakey dm-delay";

/** What the script printed. Throws with that when the script fails; a machine that is killed does not fail. */
export async function runInKernel({
  script,
  disks,
  folder = tempDir(),
  killAfterMs,
  timeoutMs = 90_000,
}: KernelJob): Promise<string> {
  const state = tempDir();
  const init = join(state, "init");
  writeFileSync(join(state, "job.sh"), `set -e\n${script}\n`);
  writeFileSync(init, initScript(state, folder));
  chmodSync(init, 0o755);
  const machine = spawn(
    "linux.uml",
    [
      ...["rootfstype=hostfs", "rootflags=/", "ro", `init=${init}`, "mem=384M"],
      ...disks.map((path, i) => `ubd${i}=${path}`),
      ...["con=null", "con0=null,fd:1", "con1=null", "quiet"],
    ],
    {
      // The machine is a group of processes: all of them go.
      detached: true,
      stdio: ["ignore", "ignore", "ignore"],
      env: { ...process.env, TMPDIR: state, ...wideRegisters(state) },
    },
  );
  const kill = () => {
    try {
      process.kill(-machine.pid!, "SIGKILL");
    } catch {} // it has ended
  };
  const timer = setTimeout(kill, killAfterMs ?? timeoutMs);
  try {
    await once(machine, "exit");
  } finally {
    clearTimeout(timer);
    kill();
  }
  const read = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : "");
  const output = read(".output");
  const code = read(".exit").trim();
  if (killAfterMs === undefined && code !== "0")
    throw new Error(`the script ended with ${code || "nothing"} in the kernel:\n${output}`);
  return output;
}

function initScript(state: string, folder: string): string {
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LVM_SUPPRESS_FD_WARNINGS=1 LVM_SYSTEM_DIR=/run/lvm-config
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /run/lvm /run/lock/lvm /run/lvm-config /run/modules/lib
ln -s /usr/lib/uml/modules /run/modules/lib/modules
for module in ${MODULES}; do (exec -a modprobe kmod -d /run/modules $module); done
cat > /run/lvm-config/lvm.conf <<END
devices { dir="/dev" scan=["/dev"] obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 hints="none" multipath_component_detection=0 global_filter=["a|/dev/ubd[a-z]+[0-9]*\\$|","r|.*|"] }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 monitoring=0 }
global { use_lvmpolld=0 system_id_source="none" event_activation=0 notify_dbus=0 locking_dir="/run/lock/lvm" }
backup { backup=0 archive=0 }
END
mount -t hostfs none /mnt -o ${folder}
cd /mnt
bash ${state}/job.sh > /mnt/.output 2>&1
echo $? > /mnt/.exit
sync
/sbin/halt -f -p 2>/dev/null || echo o > /proc/sysrq-trigger
`;
}

/**
 * This kernel keeps 2.6 KiB of a process's extended registers. Processors with AMX have 11 KiB, and their kernels refuse to set fewer:
 * a library in front of libc's ptrace fills up what is missing with what is there.
 */
const WIDE_REGISTERS = `#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#define PEEK_LAST 3
#define GETREGSET 0x4204
#define SETREGSET 0x4205
#define XSTATE 0x202
static __thread char registers[65536] __attribute__((aligned(64)));
long ptrace(int request, ...) {
  va_list list;
  va_start(list, request);
  long pid = va_arg(list, long), address = va_arg(list, long);
  void *data = va_arg(list, void *);
  va_end(list);
  if (request >= 1 && request <= PEEK_LAST) {
    long word, result = syscall(SYS_ptrace, (long)request, pid, address, &word);
    return result < 0 ? result : word;
  }
  if (request == SETREGSET && address == XSTATE) {
    struct iovec *given = data, whole = {registers, sizeof registers};
    if (syscall(SYS_ptrace, (long)GETREGSET, pid, address, &whole) == 0 && whole.iov_len > given->iov_len) {
      memcpy(registers, given->iov_base, given->iov_len);
      return syscall(SYS_ptrace, (long)SETREGSET, pid, address, &whole);
    }
  }
  return syscall(SYS_ptrace, (long)request, pid, address, data);
}
`;

function wideRegisters(folder: string): { LD_PRELOAD?: string } {
  if (!/\bamx_tile\b/.test(readFileSync("/proc/cpuinfo", "utf8")) || !havePeer("cc")) return {};
  const source = join(folder, "wide-registers.c");
  const library = join(folder, "wide-registers.so");
  writeFileSync(source, WIDE_REGISTERS);
  execFileSync("cc", ["-O1", "-shared", "-fPIC", "-o", library, source]);
  return { LD_PRELOAD: library };
}
