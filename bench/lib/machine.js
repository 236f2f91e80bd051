// What was measured on: without it a figure means nothing.
import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, release, totalmem, type } from "node:os";

const PEERS = {
  "qemu-nbd": ["qemu-nbd", "--version"],
  "qemu-img": ["qemu-img", "--version"],
  nbdkit: ["nbdkit", "--version"],
  nbdcopy: ["nbdcopy", "--version"],
  fio: ["fio", "--version"],
  cp: ["cp", "--version"],
};

export function describeMachine() {
  return {
    machine: {
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
    },
    kernel: `${type()} ${release()}`,
    versions: { node: process.versions.node, ...peerVersions() },
  };
}

/** Whether results of `a` may stand beside those of `b` in one file. */
export function sameMachine(a, b) {
  return (
    JSON.stringify([a.machine, a.kernel, a.versions?.node]) === JSON.stringify([b.machine, b.kernel, b.versions.node])
  );
}

function peerVersions() {
  const found = Object.entries(PEERS).map(([name, [program, ...args]]) => {
    const { stdout } = spawnSync(program, args, { encoding: "utf8" });
    return [name, /\d+(?:\.\d+)+/.exec(stdout ?? "")?.[0]];
  });
  return Object.fromEntries(found.filter(([, version]) => version !== undefined));
}
