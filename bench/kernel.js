// The kernel's own block device: /dev/xvdX of an attached disk, through FUSE, our ring and the file, against a loop device
// over qemu-storage-daemon's FUSE export of the same file, as losetup makes it and with direct I/O. Needs root.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeDataFile } from "./lib/data-file.js";
import { median } from "./lib/median.js";
import { figuresOf } from "./lib/nbd-peers.js";
import { runProgram } from "./lib/timing.js";

export const name = "kernel";

const FILE_SIZE = 512 * 2 ** 20;
const SECONDS = 2;
const PLAIN = "qemu FUSE, loop";
const DIRECT = "qemu FUSE, loop with direct I/O";

const WORKLOADS = [
  {
    title: "4 KiB random read, depth 32",
    args: ["--rw=randread", "--bs=4k", "--iodepth=32"],
    unit: "IOPS",
    figure: ({ iops }) => iops,
    targets: { [PLAIN]: 3 },
  },
  {
    title: "4 KiB random read, depth 1",
    args: ["--rw=randread", "--bs=4k", "--iodepth=1"],
    unit: "IOPS",
    figure: ({ iops }) => iops,
    targets: {},
  },
  {
    title: "128 KiB sequential read, depth 32",
    args: ["--rw=read", "--bs=128k", "--iodepth=32"],
    unit: "GB/s",
    figure: ({ bandwidth }) => bandwidth / 1e9,
    targets: { [PLAIN]: 6 },
  },
];

export async function run(context) {
  if (process.getuid() !== 0 || !existsSync("/dev/fuse") || !existsSync("/dev/loop-control")) {
    context.say("skipped: needs root, /dev/fuse and /dev/loop-control");
    return [];
  }
  if (!context.have("fio", "qemu-storage-daemon", "losetup")) return [];
  const file = join(context.dir, "data.dsk");
  writeDataFile(file, FILE_SIZE);
  const { env, node, xvd } = context;
  const ours = (...args) => runProgram([node, xvd, ...args], { env });
  const qemu = await startQemu(context.dir, file);
  const loops = [];
  try {
    loops.push(losetup(qemu.path), losetup("--direct-io=on", qemu.path));
    ours("attach", file, "--access", "ro", "--kernel", "always", "--vdev", "xvdkb");
    const contestants = { xvdkit: "/dev/xvdkb", [PLAIN]: loops[0], [DIRECT]: loops[1] };
    return WORKLOADS.flatMap((workload) => measure(context, workload, contestants));
  } finally {
    for (const loop of loops) spawnSync("losetup", ["-d", loop]);
    qemu.stop();
  }
}

function measure({ rounds, say }, { title, args, unit, figure, targets }, contestants) {
  const samples = Object.fromEntries(Object.keys(contestants).map((who) => [who, []]));
  for (let round = 0; round < rounds; round++)
    for (const [who, device] of Object.entries(contestants)) {
      const value = figure(fio(device, args));
      say(`${title}: ${who} ${Number(value.toPrecision(3))} ${unit}`);
      samples[who].push(value);
    }
  const { xvdkit, ...peers } = Object.fromEntries(
    Object.entries(samples).map(([who, values]) => [who, median(values)]),
  );
  return Object.entries(peers).map(([peerName, peer]) => ({
    ...{ name: title, ours: xvdkit, peer, peerName, unit, better: "higher" },
    target: targets[peerName] ?? null,
  }));
}

function fio(device, args) {
  const fixed = ["--name=bench", "--readonly", "--direct=1", "--ioengine=libaio", `--filename=${device}`];
  const output = ["--time_based", `--runtime=${SECONDS}`, "--ramp_time=1", "--norandommap", "--output-format=json"];
  const { stdout, stderr, status } = spawnSync("fio", [...fixed, ...args, ...output], { encoding: "utf8" });
  if (status !== 0) throw new Error(`fio ended with ${status}: ${stderr || stdout}`);
  return figuresOf(stdout, "read");
}

function losetup(...args) {
  const { stdout, stderr, status } = spawnSync("losetup", ["--find", "--show", "--read-only", ...args], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`losetup ended with ${status}: ${stderr}`);
  return stdout.trim();
}

async function startQemu(dir, file) {
  const path = join(dir, "export");
  writeFileSync(path, "");
  const child = spawn("qemu-storage-daemon", [
    ...["--blockdev", `driver=file,node-name=f,filename=${file},read-only=on`],
    ...["--export", `type=fuse,id=e,node-name=f,mountpoint=${path}`],
  ]);
  for (let attempt = 0; attempt < 200; attempt++) {
    const { stdout } = spawnSync("stat", ["-c", "%s", path], { encoding: "utf8" });
    if (Number(stdout) === FILE_SIZE) return { path, stop: () => child.kill() };
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  child.kill("SIGKILL");
  throw new Error("qemu-storage-daemon does not export the file after 5 s");
}
