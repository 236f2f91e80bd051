// Cached reads through a block device's whole path, measured in turns: our ring from a guest's thread to the file,
// and NBD servers under fio's nbd engine.
import { join } from "node:path";
import { writeDataFile } from "./lib/data-file.js";
import { median } from "./lib/median.js";
import { fioNbd, NBD_PEERS, startNbdPeer } from "./lib/nbd-peers.js";
import { startRing } from "./lib/ring.js";

export const name = "ring";

const FILE_SIZE = 512 * 2 ** 20;

/** The contestant that is ours; the others are its peers. */
const OURS = "xvdkit";

/**
 * `figure` picks what is compared; `least` bounds ours by itself, `ratios` ours by a peer's.
 * `ring` is how our halves talk when it is not as they agree by themselves; such a row has no peers.
 */
const WORKLOADS = [
  {
    title: "4 KiB random read, depth 1",
    rw: "randread",
    blockSize: 4096,
    depth: 1,
    unit: "IOPS",
    figure: ({ iops }) => iops,
    least: 45_000,
    ratios: { "qemu-nbd": 3 },
  },
  {
    title: "4 KiB random read, depth 32",
    rw: "randread",
    blockSize: 4096,
    depth: 32,
    unit: "IOPS",
    figure: ({ iops }) => iops,
    least: 250_000,
    ratios: { "qemu-nbd": 4 },
  },
  {
    title: "128 KiB sequential read, depth 32",
    rw: "read",
    blockSize: 131072,
    depth: 32,
    unit: "GB/s",
    figure: ({ bandwidth }) => bandwidth / 1e9,
    least: 3,
    ratios: {},
  },
  {
    title: "the same in requests of 44 KiB, as without indirect ones",
    rw: "read",
    blockSize: 131072,
    depth: 32,
    unit: "GB/s",
    figure: ({ bandwidth }) => bandwidth / 1e9,
    least: 2.5,
    ring: { maxSegments: 11 },
  },
  {
    title: "the same, each page granted anew",
    rw: "read",
    blockSize: 131072,
    depth: 32,
    unit: "GB/s",
    figure: ({ bandwidth }) => bandwidth / 1e9,
    least: 2.5,
    ring: { persistent: false },
  },
  {
    title: "4 KiB random read, depth 128, rings of 4 pages",
    rw: "randread",
    blockSize: 4096,
    depth: 128,
    unit: "IOPS",
    figure: ({ iops }) => iops,
    least: 250_000,
    ring: { pageOrder: 2 },
  },
];

export async function run(context) {
  const file = join(context.dir, "data.dsk");
  context.say(`writing ${FILE_SIZE / 2 ** 20} MiB of data`);
  writeDataFile(file, FILE_SIZE);
  const contestants = [];
  try {
    contestants.push(await startRing(file));
    await startPeers(context, file, contestants);
    const rows = [];
    for (const workload of WORKLOADS)
      rows.push(
        ...(workload.ring
          ? await measureAlone(context, workload, file)
          : await measureWorkload(context, workload, contestants)),
      );
    return rows;
  } finally {
    for (const contestant of contestants) await contestant.stop();
  }
}

/** Adds everyone who serves `file`; those that have started are stopped by the caller even when a later one fails. */
async function startPeers({ have, dir }, file, contestants) {
  if (!have("fio", ...NBD_PEERS)) return;
  for (const peer of NBD_PEERS) {
    const server = await startNbdPeer(peer, file, dir);
    contestants.push({
      name: peer,
      /** Gives { iops, bandwidth }. */
      measure: async (workload) => fioNbd(server.uri, workload, { dir }),
      stop: () => server.stop(),
    });
  }
}

async function measureAlone(context, workload, file) {
  const ours = await startRing(file, workload.ring);
  try {
    return await measureWorkload(context, workload, [ours]);
  } finally {
    await ours.stop();
  }
}

async function measureWorkload(context, workload, contestants) {
  const samples = new Map(contestants.map((contestant) => [contestant.name, []]));
  for (let round = 0; round < context.rounds; round++)
    for (const contestant of contestants) {
      const value = workload.figure(await contestant.measure(workload));
      context.say(`${workload.title}: ${contestant.name} ${Number(value.toPrecision(3))} ${workload.unit}`);
      samples.get(contestant.name).push(value);
    }
  const medians = Object.fromEntries([...samples].map(([who, values]) => [who, median(values)]));
  return rowsOf(workload, medians);
}

/** Ours against its own bound, then beside each peer. */
function rowsOf({ title, unit, least, ratios }, { [OURS]: ours = null, ...peers }) {
  const common = { name: title, ours, unit, better: "higher" };
  const alone = ours === null ? [] : [{ ...common, peer: null, peerName: "", target: least }];
  const beside = Object.entries(peers).map(([peerName, peer]) => ({
    ...common,
    peer,
    peerName,
    target: ratios[peerName] ?? null,
  }));
  return [...alone, ...beside];
}
