// A raw file served to others' clients, beside the servers of others; the whole way through a domain's rings, beside qemu-nbd
// on the bare file; and a disk fetched from a server, beside nbdcopy.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { writeDataFile } from "./lib/data-file.js";
import { median } from "./lib/median.js";
import { fioNbd, NBD_PEERS, startNbdPeer, startNbdServer } from "./lib/nbd-peers.js";
import { runProgram, timeInTurns } from "./lib/timing.js";

export const name = "nbd";

const FILE_SIZE = 512 * 2 ** 20;
const OURS = "xvdkit";
/** Each figure's run, after a second of warming up. */
const SECONDS = 1;
/** The peer of the whole way. */
const BARE = "qemu-nbd";

const iops = { unit: "IOPS", figure: ({ iops: value }) => value };
const bandwidth = { unit: "GB/s", figure: ({ bandwidth: value }) => value / 1e9 };

/** `ratio`: what ours must reach of each peer's. */
const WORKLOADS = [
  { title: "serve: 4 KiB random read, depth 1", rw: "randread", blockSize: 4096, depth: 1, ratio: 1.3, ...iops },
  { title: "serve: 4 KiB random read, depth 32", rw: "randread", blockSize: 4096, depth: 32, ratio: 1.4, ...iops },
  {
    title: "serve: 128 KiB sequential read, depth 32",
    rw: "read",
    blockSize: 131072,
    depth: 32,
    ratio: 1,
    ...bandwidth,
  },
  {
    title: "serve: 4 KiB random read, depth 8, four connections",
    rw: "randread",
    blockSize: 4096,
    depth: 8,
    jobs: 4,
    ratio: 1,
    ...iops,
  },
];

/** Client, NBD, blkfront, blkback, file: what of qemu-nbd's figure on the bare file must come through. */
const WHOLE_WAY = WORKLOADS.filter(({ jobs = 1 }) => jobs === 1).map((workload) => ({
  ...workload,
  title: workload.title.replace("serve", "the whole way"),
  ratio: 1,
}));

export async function run(context) {
  if (!context.have("fio", "nbdcopy", ...NBD_PEERS)) return [];
  const file = join(context.dir, "data.dsk");
  context.say(`writing ${FILE_SIZE / 2 ** 20} MiB of data`);
  writeDataFile(file, FILE_SIZE);
  return [...(await serving(context, file)), ...(await wholeWay(context, file)), ...(await fetching(context, file))];
}

async function serving(context, file) {
  const servers = [];
  try {
    servers.push(await startOurs(context, file));
    for (const peer of NBD_PEERS) servers.push(await startNbdPeer(peer, file, context.dir));
    return WORKLOADS.flatMap((workload) => rowsOf(workload, measure(context, workload, servers)));
  } finally {
    for (const server of servers) await server.stop();
  }
}

async function wholeWay(context, file) {
  const { env, node, xvd, dir } = context;
  const attach = [node, xvd, "attach", file, "--access", "ro", "--kernel", "never", "--json"];
  const { stdout } = runProgram(attach, { env, stdio: ["ignore", "pipe", "pipe"] });
  const { vdev, socket } = JSON.parse(stdout);
  const bare = await startNbdPeer(BARE, file, dir);
  try {
    const contestants = [{ name: OURS, uri: `nbd+unix:///?socket=${socket}` }, bare];
    return WHOLE_WAY.flatMap((workload) => rowsOf(workload, measure(context, workload, contestants)));
  } finally {
    await bare.stop();
    runProgram([node, xvd, "detach", vdev], { env });
  }
}

function startOurs({ node, xvd, dir }, file) {
  const socket = join(dir, "xvdkit.sock");
  const command = [node, xvd, "serve", file, "--socket", socket, "--read-only", "--persistent"];
  return startNbdServer(OURS, command, socket);
}

/** Medians by contestant. */
function measure(context, workload, servers) {
  const samples = Object.fromEntries(servers.map((server) => [server.name, []]));
  for (let round = 0; round < context.rounds; round++)
    for (const server of servers) {
      const value = workload.figure(fioNbd(server.uri, workload, { seconds: SECONDS, dir: context.dir }));
      context.say(`${workload.title}: ${server.name} ${Number(value.toPrecision(3))} ${workload.unit}`);
      samples[server.name].push(value);
    }
  return Object.fromEntries(Object.entries(samples).map(([who, values]) => [who, median(values)]));
}

function rowsOf({ title, unit, ratio }, { [OURS]: ours, ...peers }) {
  return Object.entries(peers).map(([peerName, peer]) => ({
    name: title,
    ours,
    peer,
    peerName,
    unit,
    better: "higher",
    target: ratio,
  }));
}

async function fetching(context, file) {
  const rows = [];
  for (const peer of NBD_PEERS) {
    const server = await startNbdPeer(peer, file, context.dir);
    const copy = join(context.dir, "copy.dsk");
    const before = () => rmSync(copy, { force: true });
    const ours = [context.node, context.xvd, "clone", server.uri, copy, "--no-sync"];
    try {
      const found = timeInTurns(
        { ours: { argv: ours, before }, peer: { argv: ["nbdcopy", server.uri, copy], before } },
        { rounds: context.rounds, env: context.env },
      );
      rows.push({
        name: `fetch 512 MiB of data from ${peer}`,
        ours: found.ours,
        peer: found.peer,
        peerName: "nbdcopy",
        unit: "ms",
        better: "lower",
        target: 1,
      });
    } finally {
      await server.stop();
      before();
    }
  }
  return rows;
}
