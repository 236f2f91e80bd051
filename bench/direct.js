// Uncached reads (O_DIRECT), in turns: our ring from a guest's thread to the file, and fio's own engines on the same file.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { writeDataFile } from "./lib/data-file.js";
import { median } from "./lib/median.js";
import { figuresOf } from "./lib/nbd-peers.js";
import { startRing } from "./lib/ring.js";

export const name = "direct";

const FILE_SIZE = 512 * 2 ** 20;
const SECONDS = 2;
const PEERS = ["io_uring", "libaio"];
const WORKLOAD = { rw: "randread", blockSize: 4096, depth: 32 };

export async function run(context) {
  const file = join(context.dir, "data.dsk");
  writeDataFile(file, FILE_SIZE);
  spawnSync("sync", [file]);
  const ours = await startRing(file, { direct: true });
  const peers = context.have("fio") ? PEERS : [];
  const samples = { ours: [], ...Object.fromEntries(peers.map((peer) => [peer, []])) };
  try {
    for (let round = 0; round < context.rounds; round++) {
      samples.ours.push((await ours.measure(WORKLOAD, SECONDS)).iops);
      for (const peer of peers) samples[peer].push(fio(file, peer).iops);
      context.say(
        Object.entries(samples)
          .map(([who, values]) => `${who} ${Math.round(values.at(-1))}`)
          .join(", "),
      );
    }
  } finally {
    await ours.stop();
  }
  const common = {
    name: "uncached 4 KiB random read, depth 32",
    ours: median(samples.ours),
    unit: "IOPS",
    better: "higher",
  };
  if (peers.length === 0) return [{ ...common, peer: null, peerName: "", target: null }];
  return peers.map((peer) => ({ ...common, peer: median(samples[peer]), peerName: `fio ${peer}`, target: 0.9 }));
}

function fio(file, engine) {
  const args = [
    `--filename=${file}`,
    `--ioengine=${engine}`,
    "--direct=1",
    "--readonly",
    "--rw=randread",
    "--bs=4k",
    "--iodepth=32",
  ];
  const output = ["--name=bench", "--time_based", `--runtime=${SECONDS}`, "--norandommap", "--output-format=json"];
  const { stdout, stderr, status, error } = spawnSync("fio", [...args, ...output], { encoding: "utf8" });
  if (error) throw error;
  if (status !== 0) throw new Error(`fio ended with ${status}: ${stderr || stdout}`);
  return figuresOf(stdout, "randread");
}
